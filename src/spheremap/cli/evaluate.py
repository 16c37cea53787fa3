"""Command `evaluate`: score a head on the pairs of a split."""

import argparse
import dataclasses
from pathlib import Path

import torch

from spheremap.base.device import HELP as DEVICE_HELP
from spheremap.base.device import choose_device
from spheremap.base.errors import InputError
from spheremap.base.files import sha256_file
from spheremap.base.provenance import digest, provenance
from spheremap.config.slices import read_slice
from spheremap.data.tables import read_tables, tables_digest
from spheremap.features.cache.reader import FeatureCache
from spheremap.methods.adaptation import Adapter, load_adapter
from spheremap.metrics.evaluation import (
    EvaluateSlice,
    check_adapter,
    check_agreement,
    evaluate,
    write_results,
)
from spheremap.model.head import load_head

HELP = "match the pairs of a split with features, sphere and both, and score them (PCK, KAP, intervals)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--params",
        type=Path,
        required=True,
        help="JSON with the keys `evaluate`, `dataset` and, with --adapter, `adapted`: true",
    )
    parser.add_argument("--tables", type=Path, required=True, help="folder of the canonical tables")
    parser.add_argument("--images", type=Path, nargs="+", required=True, help="feature cache of whole images")
    parser.add_argument("--head", type=Path, required=True, help="trained head")
    parser.add_argument("--adapter", type=Path, help="trained feature adapter, for the rows that use it")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--device", default="auto", help=DEVICE_HELP)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")


def run(args: argparse.Namespace) -> None:
    """Evaluate and write the results."""
    torch.set_num_threads(max(1, args.threads))
    params = read_slice(args.params, EvaluateSlice)
    if params.adapted != (args.adapter is not None):
        raise InputError(
            "the parameters and the option --adapter do not agree",
            where=args.params,
            expected="--adapter if, and only if, `adapted` is true",
            found=f"`adapted` {str(params.adapted).lower()}, --adapter {args.adapter or 'not given'}",
        )
    device = choose_device(args.device)
    tables = read_tables(args.tables)
    head = load_head(args.head, device)
    with FeatureCache.open(args.images, expect={"inputs": tables_digest(args.tables)}) as cache:
        check_agreement(cache, head, args.head)
        adapter = _adapter(args.adapter, cache, device)
        results = evaluate(
            cache, tables, head, params.evaluate, dataset=params.dataset, adapter=adapter, device=device
        )
        inputs = {
            **tables_digest(args.tables),
            "images": digest(cache.provenance),
            "head": sha256_file(args.head),
        }
        if adapter is not None:
            inputs["adapter"] = sha256_file(args.adapter)
    write_results(args.out, results, provenance("evaluate", dataclasses.asdict(params), inputs))


def _adapter(path: Path | None, cache: FeatureCache, device: torch.device) -> Adapter | None:
    if path is None:
        return None
    adapter = load_adapter(path, device)
    check_adapter(cache, adapter, path)
    return adapter
