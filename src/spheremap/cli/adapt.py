"""`spheremap adapt`: train a feature adapter on pseudo-labels from cached training views."""

import argparse
import dataclasses
import sys
from pathlib import Path

import torch

from spheremap.base.device import HELP as DEVICE_HELP
from spheremap.base.device import choose_device, deterministic
from spheremap.base.files import exclusive, sha256_file, write_csv
from spheremap.base.provenance import digest, provenance
from spheremap.config.slices import read_slice
from spheremap.data.tables import Tables, read_tables, tables_digest
from spheremap.features.cache import FeatureCache
from spheremap.features.cache.space import check_same_space, feature_space
from spheremap.methods.adaptation import Adapter, AdapterConfig, AdapterParams, adapt, save_adapter
from spheremap.methods.adaptation.loop import Validator
from spheremap.metrics.agreement import check_agreement
from spheremap.metrics.validation import make_adapted_validation
from spheremap.model.head import Head, load_head
from spheremap.model.training import Views

HELP = "train a feature adapter on pseudo-labels from cached training views"
STATE = "state.safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--params", type=Path, required=True, help="JSON with `adapter` and `dataset`")
    parser.add_argument("--tables", type=Path, required=True, help="directory of canonical tables")
    parser.add_argument("--views", type=Path, nargs="+", required=True, help="cache of training views")
    parser.add_argument("--images", type=Path, nargs="+", required=True, help="cache of whole images")
    parser.add_argument("--head", type=Path, required=True, help="trained sphere head")
    parser.add_argument("--out", type=Path, required=True, help="adapter to write (safetensors)")
    parser.add_argument("--curve", type=Path, required=True, help="CSV of loss and scores to write")
    parser.add_argument("--work", type=Path, required=True, help="directory that lets a killed run resume")
    parser.add_argument("--device", default="auto", help=DEVICE_HELP)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument(
        "--memory",
        type=float,
        default=4.0,
        metavar="GIB",
        help="features up to this size are held in main memory, larger ones are read batch by batch "
        "(default: 4); half of the free memory of a GPU is used first",
    )


def run(args: argparse.Namespace) -> None:
    """Train, or go on training, and write adapter and curve."""
    params = read_slice(args.params, AdapterParams)
    config = params.adapter
    device = choose_device(args.device)
    torch.set_num_threads(args.threads)
    tables = read_tables(args.tables)
    inputs = tables_digest(args.tables)
    head = load_head(args.head, device)
    with (
        exclusive(args.work / "lock"),
        deterministic(),
        FeatureCache.open(args.views, expect={"inputs": inputs}) as views_cache,
        FeatureCache.open(args.images, expect={"inputs": inputs}) as images_cache,
    ):
        check_same_space(views_cache, images_cache, args.views[0], args.images[0])
        check_agreement(images_cache, head, args.head)
        record = provenance(
            "adapt",
            dataclasses.asdict(params),
            {
                **inputs,
                "views": digest(views_cache.provenance),
                "images": digest(images_cache.provenance),
                "features": digest(feature_space(views_cache.provenance)),
                "head": sha256_file(args.head),
            },
        )
        adapter = Adapter.initialise(views_cache.dim, config.width, config.seed).to(device)
        views = Views(
            views_cache,
            tables,
            head.categories,
            bins=config.viewpoint_bins,
            memory=args.memory,
            device=device,
        )
        state = args.work / STATE
        result = adapt(
            adapter,
            head,
            views,
            config,
            state_path=state,
            identity=digest({"provenance": record, "device": device.type}),
            validator=_validator(config, tables, images_cache, head, device),
        )
        print(f"keeping the adapter of step {result.best_step}", file=sys.stderr)
        write_csv(args.curve, result.curve)
        save_adapter(args.out, adapter, {**record, "best_step": result.best_step})
        state.unlink()


def _validator(
    config: AdapterConfig, tables: Tables, cache: FeatureCache, head: Head, device: torch.device
) -> Validator | None:
    if tables.pairs_of("val").empty:
        print("there are no pairs of the split 'val': the last adapter is kept", file=sys.stderr)
        return None
    chosen = config.validation
    return make_adapted_validation(
        cache,
        tables,
        head,
        split="val",
        sphere_weight=chosen.sphere_weight,
        alpha=chosen.alpha,
        max_pairs=chosen.pairs,
        seed=config.seed,
        device=device,
    )
