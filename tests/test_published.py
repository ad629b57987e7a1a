"""Public data: where it is looked for, how it is fetched, and what is said of a changed file."""

import http.server
import threading

import pytest

from mirage_jax import cli, files, published
from mirage_jax.errors import InputError

NAME = "tiny"
CONTENT = {"a.csv": b"a,b\n1,2\n", "b.csv": b"c\n3\n"}


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Three places, none with data yet, and a small data set."""
    monkeypatch.setattr(published, "cache", lambda: tmp_path / "cache")
    monkeypatch.setenv("MIRAGE_DATA", str(tmp_path / "env"))
    (tmp_path / "dir").mkdir()
    hashes = {name: files.sha256(data) for name, data in CONTENT.items()}
    tiny = published.Dataset("MIT", "nowhere @ 0000000", hashes, "http://127.0.0.1:9/data")
    monkeypatch.setattr(published, "DATASETS", {NAME: tiny})
    return tmp_path


def put(root, content=CONTENT):
    for name, data in content.items():
        files.write(root / NAME / name, data)


# --- where ---


def test_order_is_data_dir_then_environment_then_cache(places):
    for place, given in (("cache", None), ("env", None), ("dir", places / "dir")):
        put(places / place)
        assert published.locate(NAME, given) == places / place / NAME
    assert published.locate(NAME) == places / "env" / NAME


def test_a_place_with_half_the_files_is_passed_over(places):
    put(places / "dir", {"a.csv": b""})
    put(places / "cache")
    assert published.locate(NAME, places / "dir") == places / "cache" / NAME


def test_an_absent_data_set_names_the_command_and_the_places(places):
    with pytest.raises(
        InputError, match=r"data set tiny is not here \(looked in .*dir, .*env, .*cache\); `mirage data tiny`"
    ):
        published.locate(NAME, places / "dir")


def test_an_absent_derived_data_set_names_its_files(places, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(published, "cache", lambda: places / "cache")
    monkeypatch.delenv("MIRAGE_DATA", raising=False)
    with pytest.raises(InputError, match=r"derived .*put bigg_T0.*csv in DIR/bigbench_bigg and give --data-dir DIR"):
        published.locate("bigbench_bigg")


def test_a_data_dir_that_is_no_folder_is_refused(places):
    with pytest.raises(InputError, match="--data-dir: expected a folder, got .*absent"):
        published.locate(NAME, places / "absent")


@pytest.mark.parametrize("call", [published.locate, published.fetch, published.supply])
def test_an_unknown_name_is_refused(places, call):
    with pytest.raises(InputError, match="unknown data set ../x; known: tiny"):
        call("../x")


# --- what lies there ---


def test_a_changed_file_is_reported(places):
    put(places / "dir", CONTENT | {"b.csv": b"c\n4\n"})
    folder = published.locate(NAME, places / "dir")
    found = published.hashes(NAME, folder)
    assert found["a.csv"] == files.sha256(CONTENT["a.csv"])
    assert published.changed(NAME, found) == ["b.csv"]


@pytest.mark.parametrize("name", published.DATASETS)
def test_the_copies_at_hand_are_the_published_ones(data_dir, name):
    if not (data_dir / name).is_dir():
        pytest.skip(f"no {data_dir / name}")
    assert published.changed(name, published.hashes(name, published.locate(name, data_dir))) == []


def test_every_pin_is_a_commit_and_a_hash():
    for dataset in published.DATASETS.values():
        assert dataset.licence and dataset.origin
        assert all(
            len(digest) == 64 and not set(digest) - set("0123456789abcdef") for digest in dataset.hashes.values()
        )
        assert dataset.base is None or dataset.base.startswith("https://")


# --- fetching ---


@pytest.fixture
def server(places, monkeypatch):
    """The data set on a loopback server; the list of paths asked for."""
    served, asked = dict(CONTENT), []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.rpartition("/")[2]
            asked.append(name)
            self.send_response(200 if name in served else 404)
            self.send_header("Content-Length", str(len(served.get(name, b""))))
            self.end_headers()
            self.wfile.write(served.get(name, b""))

        def log_message(self, *args):
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    base = f"http://127.0.0.1:{httpd.server_port}/data"
    monkeypatch.setitem(published.DATASETS, NAME, published.DATASETS[NAME]._replace(base=base))
    yield served, asked
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def test_fetch_fills_the_cache_once(places, server, capsys):
    _, asked = server
    assert cli.main(["data", NAME]) == 0
    assert published.locate(NAME) == places / "cache" / NAME
    assert published.fetch(NAME) == places / "cache" / NAME
    assert sorted(asked) == ["a.csv", "b.csv"]
    shown = capsys.readouterr()
    assert f"sha256 {files.sha256(CONTENT['a.csv'])}" in shown.out and "licence: MIT" in shown.out


def test_a_file_with_another_hash_is_not_kept(places, server, capsys):
    server[0]["b.csv"] = b"tampered"
    assert cli.main(["data", NAME]) == 2
    assert "tiny/b.csv could not be fetched" in capsys.readouterr().err
    assert not (places / "cache" / NAME / "b.csv").exists()
    assert not [p for p in (places / "cache").rglob("*") if p.is_file() and p.name != "a.csv"]


def test_a_file_that_is_gone_is_one_line(places, server, capsys):
    del server[0]["a.csv"]
    assert cli.main(["data", NAME]) == 2
    error = capsys.readouterr().err
    assert "tiny/a.csv could not be fetched from http://127.0.0.1" in error
    assert error.count("\n") == 1


def test_without_a_network_fetch_is_one_line_and_2(places, monkeypatch, capsys):
    monkeypatch.setitem(published.DATASETS, NAME, published.DATASETS[NAME]._replace(base="https://example.org/data"))
    with pytest.raises(InputError, match="tiny/a.csv could not be fetched from https://example.org/data: "):
        published.fetch(NAME)
    capsys.readouterr()
    assert cli.main(["data", NAME]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("error: tiny/a.csv could not be fetched")
    assert shown.err.count("\n") == 1
