"""Public result files: where each one is pinned, whose it is, and where on this machine it lies.

Order of places: `--data-dir`, then MIRAGE_DATA, then the download cache that `mirage data NAME` fills.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mirage_jax import files
from mirage_jax.errors import InputError


class Dataset(NamedTuple):
    """A set of files under one folder name. Without a `base` address it can only come from a data directory."""

    licence: str
    origin: str
    hashes: Mapping[str, str]  # file name -> SHA-256
    base: str | None = None  # address of the folder, pinned to a commit


_RAW = "https://raw.githubusercontent.com"
DATASETS: Mapping[str, Dataset] = {
    "gpt3_multiplication": Dataset(
        licence="MIT",
        origin="github.com/mukobi/GPT-3-Multiplication-Tables @ 63c437f: InstructGPT completions, temperature 0",
        hashes={
            f"multiplication_data_GPT3-text-{engine}_0_100.csv": digest
            for engine, digest in {
                "ada-001": "7b4bda97916b610bcc24c7a127442baa80544c5d7dc921456a0688bf693c2e10",
                "babbage-001": "18cf43a39999684fc118fa16b650655391419df59cab259e908132cc0fce7fbc",
                "curie-001": "02bd8d1256d68e227d18fd7c729e830fba6d359b48bd4bf985dd1fb4533c930f",
                "davinci-003": "abac82a9910e279acf7701cf11abc868b8d4cf273327fe53c0e98c2a2770e2fd",
            }.items()
        },
        base=f"{_RAW}/mukobi/GPT-3-Multiplication-Tables/63c437f235500b9ae8d01e78c414f9b8b61b6b79/data",
    ),
    "obs_scaling": Dataset(
        licence="Apache-2.0",
        origin="github.com/ryoungj/ObsScaling @ 4d6e1e4: scores of public base models",
        hashes={
            "base_llm_benchmark_eval.csv": "511996815735a4c46251dc585dcc525e370d148201f86561e6f927f9df2d0db8",
            "base_llm_emergent_capability_eval.csv": "a156beee73c39b7833c3c53535c473939105512d85e90b0143be7325e516ef7c",
        },
        base=f"{_RAW}/ryoungj/ObsScaling/4d6e1e43fd2635d04654aa77d1df9d5266ea0382/eval_results",
    ),
    "bigbench_bigg": Dataset(
        licence="none stated by wschella/lass; the BIG-bench logs behind it are Apache-2.0",
        origin="derived from github.com/wschella/lass @ 67fefca: BIG-G, T=0, 3-shot, 85 BIG-bench tasks",
        hashes={
            "bigg_T0_3shot_instance_correct.csv.gz": "5ceb17b621e6eafc391a12b67c9f496adc3bbccd0ea608d89b0ccb28088474ed",
            "bigg_T0_3shot_task_metrics.csv": "dc1fb462109b24fac86577536a551eff075813706022dcd8525812c5314cc8b8",
        },
    ),
    "pythia_evals": Dataset(
        licence="Apache-2.0",
        origin="derived from github.com/EleutherAI/pythia @ a19eecb: Pythia by size and checkpoint, OPT and BLOOM",
        hashes={
            "evals_tidy.csv.gz": "ecc8cde27523fa281f5371138742687a10c80d467669866e685a0aa4f7ad5a96",
        }
        | {
            f"raw_term_frequency/pythia-{size}-deduped.csv.gz": digest
            for size, digest in {
                "125m": "6c068afbeec005857edae23cf8f49e466c30f05fb6615516410e15791bf05f0f",
                "350m": "e563ff385fe356a5d5c3ddb5c0aa7ad64c4ebd215b3e2e31db3b0652e4740107",
                "800m": "7f7732ab1c8aca4460f3563fefc1276d760c6485694079adf64318d643930498",
                "1.3b": "5309ba3c33f281ef9c5c011fd0e360edef3415afe61f161551a22e7290b673c3",
                "2.7b": "3f35c99e20b61d9c48c2ee955d33312538d54b48f0cf8a77889c5ffa9d62a294",
                "6.7b": "a3b402a620ef4b97c36c458b5d100fa6463bba85c92772280543ac953bd4c94e",
                "13b": "f78657552849c0bb1cb32982467b18d3412262dc2fa45ea314790abbbcdd0fa8",
            }.items()
        },
    ),
    "openlm_scaling": Dataset(
        licence="MIT",
        origin="derived from github.com/mlfoundations/scaling @ a003c49: OpenLM models, loss on C4 and 46 accuracies",
        hashes={
            "openlm_scaling.csv.gz": "d21c8e0ea5e0b4b6e117f9af493bdf0ddf13235407b12e3b8e5f47248b58b70d",
        },
    ),
}


def locate(name: str, data_dir: Path | None = None) -> Path:
    """Folder that holds all files of a data set, or an `InputError` that names the command which supplies them."""
    dataset = _known(name)
    if data_dir is not None and not data_dir.is_dir():
        raise InputError(f"--data-dir: expected a folder, got {data_dir}")
    elsewhere = os.environ.get("MIRAGE_DATA")
    roots = [root for root in (data_dir, Path(elsewhere) if elsewhere else None, cache()) if root is not None]
    for root in roots:
        folder = root / name
        if all((folder / file).is_file() for file in dataset.hashes):
            return folder
    raise InputError(f"data set {name} is not here (looked in {', '.join(map(str, roots))}); {supply(name)}")


def supply(name: str) -> str:
    """What a user does to get a data set that is not here."""
    dataset = _known(name)
    if dataset.base:
        return f"`mirage data {name}` downloads it ({dataset.licence})"
    wanted = ", ".join(dataset.hashes)
    return f"it is {dataset.origin}; put {wanted} in DIR/{name} and give --data-dir DIR"


def fetch(name: str) -> Path:
    """Download a data set into the cache, every file checked against its SHA-256; files already there are kept."""
    import pooch

    dataset = _known(name)
    if dataset.base is None:
        raise InputError(f"{name} cannot be downloaded: {supply(name)}")
    store = pooch.create(cache() / name, base_url=f"{dataset.base}/", registry=dict(dataset.hashes))
    pooch.get_logger().setLevel("ERROR")  # what there is to say, the caller says
    download: Any = pooch.HTTPDownloader(timeout=10)
    for file in dataset.hashes:
        try:
            store.fetch(file, downloader=download)
        except (OSError, ValueError) as error:  # requests' errors are OSErrors; a wrong hash is a ValueError
            raise InputError(
                f"{name}/{file} could not be fetched from {dataset.base}: {type(error).__name__}"
            ) from None
    return cache() / name


def hashes(name: str, folder: Path) -> dict[str, str]:
    """SHA-256 of each file of a data set as it lies in the folder."""
    return {file: files.sha256(folder / file) for file in _known(name).hashes}


def changed(name: str, found: Mapping[str, str]) -> list[str]:
    """Files whose SHA-256 is not the published one: they are read, and said to differ."""
    return [file for file, digest in _known(name).hashes.items() if found[file] != digest]


def cache() -> Path:
    """Folder of the download cache, the operating system's own."""
    import pooch

    return Path(pooch.os_cache("mirage_jax"))


def _known(name: str) -> Dataset:
    if name not in DATASETS:
        raise InputError(f"unknown data set {name}; known: {', '.join(DATASETS)}")
    return DATASETS[name]
