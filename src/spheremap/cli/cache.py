"""`spheremap cache`: extract patch tokens into one shard of a feature cache."""

import argparse
import re
from pathlib import Path

from spheremap.base.errors import InputError

HELP = "extract patch tokens of training views or whole images into a shard of a feature cache"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument(
        "--params", type=Path, required=True, help="JSON with `features`, `backbone`, `dataset`"
    )
    parser.add_argument("--tables", type=Path, required=True, help="directory of canonical tables")
    parser.add_argument("--weights", type=Path, required=True, help="safetensors file of `spheremap weights`")
    parser.add_argument(
        "--kind",
        choices=["views", "images", "mirrored", "blank"],
        required=True,
        help="training views, whole images, mirror images of these, or a single blank picture",
    )
    parser.add_argument(
        "--shard", type=_shard, default=(0, 1), metavar="I/N", help="the I-th of N shards, from 0"
    )
    parser.add_argument("--out", type=Path, required=True, help="HDF5 file to write")
    parser.add_argument(
        "--device",
        default="auto",
        help="where to compute: auto, cpu, cuda or cuda:N; shards take turns on the GPUs of a machine",
    )
    parser.add_argument(
        "--threads", type=int, default=1, help="threads for decoding and for the CPU backbone"
    )


def run(args: argparse.Namespace) -> None:
    """Build the shard."""
    import torch

    from spheremap.base.device import choose_device, settle_precision
    from spheremap.base.files import read_json, sha256_file
    from spheremap.base.provenance import provenance
    from spheremap.config.slices import read_slice
    from spheremap.data.tables import read_tables, tables_digest
    from spheremap.features.cache.builder import CacheSpec, build_shard, select_sources

    spec = read_slice(args.params, CacheSpec)
    params, device = read_json(args.params), choose_device(args.device, process=args.shard[0])
    # the precision that is used, so that shards of different machines are not taken for one cache
    params["features"]["precision"] = settle_precision(spec.features.precision, device)
    torch.set_num_threads(max(1, args.threads))
    if not args.weights.is_file():
        raise InputError(
            "the weights do not exist", where=args.weights, fix="run `snakemake --cores all` to fetch them"
        )
    tables = read_tables(args.tables)
    inputs = {"weights": sha256_file(args.weights), **tables_digest(args.tables)}
    summary = build_shard(
        spec,
        select_sources(tables, args.kind, args.shard),
        weights=args.weights,
        kind=args.kind,
        shard=args.shard,
        provenance=provenance("cache", params, inputs),
        out=args.out,
        device=device,
        threads=max(1, args.threads),
    )
    print(f"{args.out}: {summary}")


def _shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or not int(match[1]) < int(match[2]):
        raise argparse.ArgumentTypeError(f"expected I/N with I < N, such as 0/1, found {text!r}")
    return int(match[1]), int(match[2])
