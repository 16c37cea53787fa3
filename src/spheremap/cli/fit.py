"""`spheremap fit`: let a method learn from cached training views."""

import argparse
import sys
from functools import partial
from pathlib import Path

from spheremap.base.errors import InputError

HELP = "fit a method that learns to cached training views"
STATE = "state.safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    from spheremap.api.arguments import add_training_arguments

    parser.add_argument("--method", required=True, metavar="NAME", help="entry of `methods` that is fitted")
    parser.add_argument("--params", type=Path, required=True, help="JSON with `methods` and `dataset`")
    add_training_arguments(parser)
    parser.add_argument("--head", type=Path, required=True, help="trained sphere head")
    parser.add_argument("--out", type=Path, required=True, help="what was learned, to write (safetensors)")
    parser.add_argument("--curve", type=Path, required=True, help="CSV of the course of training to write")


def run(args: argparse.Namespace) -> None:
    """Fit the method, or go on fitting it, and write what it learned and the course of training."""
    import torch

    from spheremap.base.device import choose_device, deterministic, exact_convolutions
    from spheremap.base.files import check_outputs, exclusive, sha256_file, write_csv
    from spheremap.base.provenance import digest, provenance
    from spheremap.config import FitSlice
    from spheremap.config.methods import entries_of, learning
    from spheremap.config.slices import read_slice
    from spheremap.data.tables import read_tables, tables_digest
    from spheremap.features.cache import FeatureCache
    from spheremap.features.cache.space import check_same_space, digests_of
    from spheremap.methods import make_methods
    from spheremap.methods.engine.fitting import Fitting, save_fitted
    from spheremap.metrics.agreement import check_agreement
    from spheremap.metrics.validation import make_fitted_validation
    from spheremap.model.head import load_head

    check_outputs(
        {"--out": args.out, "--curve": args.curve}, [args.params, args.head, *args.views, *args.images]
    )
    params = read_slice(args.params, FitSlice)
    (method,) = make_methods(params.methods, [args.method]).values()
    if args.method not in learning(params.methods, [args.method]):
        raise InputError("this method does not learn", where=args.params, found=args.method)
    device = choose_device(args.device)
    torch.set_num_threads(max(1, args.threads))
    tables = read_tables(args.tables)
    inputs = tables_digest(args.tables)
    head = load_head(args.head, device)
    with (
        exclusive(args.work / "lock"),
        deterministic(),
        exact_convolutions(),
        FeatureCache.open(args.views, expect={"inputs": inputs}) as views,
        FeatureCache.open(args.images, expect={"inputs": inputs}) as images,
    ):
        check_same_space(views, images, args.views[0], args.images[0])
        check_agreement(images, head, args.head)
        record = provenance(
            "fit",
            {
                "method": args.method,
                "methods": entries_of(params.methods, [args.method]),
                "dataset": params.dataset,
            },
            {**inputs, **digests_of(views, images), "head": sha256_file(args.head)},
        )
        fitting = Fitting(
            tables,
            views,
            images,
            head,
            device,
            memory=args.memory,
            state=args.work / STATE,
            identity=digest({"provenance": record, "device": device.type}),
            validation=partial(make_fitted_validation, images, tables, head, split="val", device=device),
        )
        fitted = method.fit(fitting)
        print(f"keeping what was learned in step {fitted.best_step}", file=sys.stderr)
        write_csv(args.curve, fitted.curve)
        save_fitted(args.out, fitted.network, {**record, "best_step": fitted.best_step})
        fitting.state.unlink(missing_ok=True)
