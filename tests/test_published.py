"""Public data: where it is looked for, how it is fetched, and what is said of a changed file."""

import gzip
import http.server
import io
import tarfile
import threading
from pathlib import Path

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
        assert dataset.hashes or "not pinned" in dataset.origin
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


# --- image sets: content pinned, or only its form ---


@pytest.fixture
def packed(server, monkeypatch):
    """A set whose content is pinned and which is served packed."""
    served, asked = server
    served.clear()
    content = b"one and two" * 50
    served["a.gz"] = gzip.compress(content, mtime=7)
    form = published.Form([("a", "a.gz")])
    tiny = published.DATASETS[NAME]._replace(
        hashes={"a": files.sha256(content)}, content=True, forms=[form], downloads=["a.gz"]
    )
    monkeypatch.setitem(published.DATASETS, NAME, tiny)
    return served, asked, content


def test_content_is_checked_however_it_is_packed(places, packed, capsys):
    served, asked, content = packed
    assert cli.main(["data", NAME]) == 0
    path = places / "cache" / NAME / "a.gz"
    assert f"{path}  sha256 of its content {files.sha256(content)}\n" in capsys.readouterr().out
    assert asked == ["a.gz"] and path.read_bytes() == served["a.gz"]
    files.write(path, gzip.compress(content, 1))  # packed in another way: kept
    assert published.fetch(NAME) == path.parent and asked == ["a.gz"]
    files.write(path, gzip.compress(b"other"))  # fetched again
    published.fetch(NAME)
    assert asked == ["a.gz", "a.gz"] and published.changed(NAME, published.hashes(NAME, path.parent)) == []


@pytest.mark.parametrize("case", ["other content", "cut short", "crc"])
def test_a_wrong_content_is_refused_and_nothing_is_left(places, packed, capsys, case):
    served, _, content = packed
    whole = bytearray(served["a.gz"])
    if case == "other content":
        served["a.gz"] = gzip.compress(b"other")
    else:
        whole[-8] ^= 1
        served["a.gz"] = bytes(whole) if case == "crc" else bytes(whole[:-9])
    assert cli.main(["data", NAME]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: tiny/a.gz could not be fetched from http://127.0.0.1") and error.count("\n") == 1
    if case == "other content":
        assert f": expected SHA-256 {files.sha256(content)}, got {files.sha256(b'other')}" in error
    else:
        assert ": a.gz is damaged: " in error
    assert not [path for path in (places / "cache").rglob("*") if path.is_file()]
    assert not list((places / "cache" / NAME).iterdir())


def archive(sizes):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as made:
        for name, size in sizes.items():
            member = tarfile.TarInfo(name)
            member.size = size
            made.addfile(member, io.BytesIO(bytes(size)))
    return out.getvalue()


def test_what_is_not_pinned_is_checked_for_its_form_and_said_not_to_be_pinned(places, server, monkeypatch, capsys):
    served, _ = server
    form = published.Form([("a.tar.gz",)])
    sizes = {"top/a.bin": 12, "top/b.bin": 7}
    tiny = published.DATASETS[NAME]._replace(hashes={}, forms=[form], downloads=["a.tar.gz"], sizes=sizes)
    monkeypatch.setitem(published.DATASETS, NAME, tiny)
    for content, said in (
        (archive({"top/a.bin": 12}), "expected in it top/b.bin of 7 bytes"),
        (archive(sizes | {"top/a.bin": 11}), "expected in it top/a.bin of 12 bytes"),
        (archive(sizes | {"../c": 1}), "a.tar.gz: the member '../c' leads out of the archive: refused"),
        (archive(sizes)[:-1], "a.tar.gz is damaged"),
        (b"<html>not found</html>", "a.tar.gz is damaged, or no tar archive"),
    ):
        served["a.tar.gz"] = content
        assert cli.main(["data", NAME]) == 2
        assert f"could not be fetched from {tiny.base}: {said}" in capsys.readouterr().err
        assert not list((places / "cache" / NAME).iterdir())
    served["a.tar.gz"] = archive(sizes | {"top/readme": 3})
    assert cli.main(["data", NAME]) == 0
    assert f"sha256 {files.sha256(served['a.tar.gz'])} (not pinned)\n" in capsys.readouterr().out


def test_the_images_are_listed_with_the_ways_to_have_them(capsys):
    assert cli.main(["data"]) == 0
    shown = capsys.readouterr().out
    for name in ("mnist", "cifar10", "cifar100", "omniglot"):
        assert f"\n{name}: " in shown and f"`mirage data {name} --tfds` prepares the directory" in shown
    assert shown.count("not pinned") == 2  # CIFAR, twice


# --- preparing by tensorflow-datasets ---


def test_preparing_needs_tensorflow_and_says_so(monkeypatch, capsys):
    for missing in ("tensorflow_datasets", "tensorflow"):
        monkeypatch.setattr(published, "_installed", lambda module, missing=missing: module != missing)
        assert cli.main(["data", "mnist", "--tfds"]) == 2
        expected = f"error: --tfds needs {missing}, which is not installed; `mirage data mnist` does without\n"
        assert capsys.readouterr() == ("", expected)


def test_preparing_is_for_a_named_image_set(capsys):
    assert cli.main(["data", "--tfds"]) == 2
    assert "--tfds: expected the NAME of an image set" in capsys.readouterr().err
    assert cli.main(["data", "obs_scaling", "--tfds"]) == 2
    assert "--tfds: obs_scaling is no image set; `mirage data obs_scaling` downloads it" in capsys.readouterr().err


def test_preparing_asks_tensorflow_datasets_for_what_is_read_without_tensorflow(tmp_path, monkeypatch, capsys):
    import tensorflow_datasets as tfds

    asked = {}

    class Builder:
        def __init__(self, name, **how):
            asked.update(how, name=name)
            self.data_dir = str(Path(how["data_dir"]) / name / "3.0.1")

        def download_and_prepare(self):
            if asked["name"] == "cifar10":
                raise ConnectionError("no\nnetwork \x1b[31m")

    monkeypatch.setattr(published, "_installed", lambda module: True)
    monkeypatch.setattr(tfds, "builder", Builder)
    monkeypatch.setattr(published, "cache", lambda: tmp_path)
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    assert cli.main(["data", "mnist", "--tfds"]) == 0
    place = tmp_path / "tensorflow_datasets"
    assert asked == {"name": "mnist", "data_dir": place, "file_format": "array_record"}
    assert capsys.readouterr().out.startswith(f"{place}/mnist/3.0.1\nlicence: CC BY-SA 3.0; ")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "own"))
    assert cli.main(["data", "cifar10", "--tfds"]) == 2
    expected = "error: tensorflow-datasets could not prepare cifar10: ConnectionError: no network \\x1b[31m\n"
    assert capsys.readouterr() == ("", expected) and asked["data_dir"] == str(tmp_path / "own")
