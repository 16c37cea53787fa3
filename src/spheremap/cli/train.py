"""`spheremap train`: learn a sphere head from cached training views."""

import argparse
import dataclasses
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from spheremap.data.tables import Tables
    from spheremap.features.cache import FeatureCache
    from spheremap.model.training import TrainConfig, Validator, Views

HELP = "train the sphere head on cached training views"
STATE = "state.safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    from spheremap.api.arguments import add_training_arguments

    parser.add_argument("--params", type=Path, required=True, help="JSON with `train` and `dataset`")
    add_training_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, help="head to write (safetensors)")
    parser.add_argument("--losses", type=Path, required=True, help="CSV of the losses to write")
    parser.add_argument(
        "--diagnostics", type=Path, required=True, help="CSV of the sphere's diagnostics to write"
    )
    parser.add_argument("--validation", type=Path, required=True, help="CSV of validation scores to write")


def run(args: argparse.Namespace) -> None:
    """Train, or go on training, and write head and curves; torchrun starts it on several GPUs at once."""
    import torch

    from spheremap.base.device import deterministic
    from spheremap.base.files import check_outputs, exclusive
    from spheremap.model.training.distributed import join, processes_here, rank, wait

    outputs = ("out", "losses", "diagnostics", "validation")
    check_outputs(
        {f"--{name}": getattr(args, name) for name in outputs}, [args.params, *args.views, *args.images]
    )
    with deterministic(), join(args.device) as device:
        torch.set_num_threads(max(1, args.threads // processes_here()))
        with exclusive(args.work / "lock") if rank() == 0 else nullcontext():
            wait()  # with the lock: nobody else writes the state
            _train(args, device)


def _train(args: argparse.Namespace, device: "torch.device") -> None:
    from spheremap.base.device import settle_precision
    from spheremap.base.files import sha256_file, write_csv
    from spheremap.base.provenance import digest, provenance
    from spheremap.config.slices import read_slice
    from spheremap.data.tables import read_tables, tables_digest
    from spheremap.features.cache import FeatureCache
    from spheremap.features.cache.space import check_same_space, digests_of
    from spheremap.model.head import Head, save_head
    from spheremap.model.training import TrainParams, Views, train
    from spheremap.model.training.distributed import processes_here, rank, say

    params = read_slice(args.params, TrainParams)
    config = dataclasses.replace(params.train, precision=settle_precision(params.train.precision, device))
    params = dataclasses.replace(params, train=config)
    tables = read_tables(args.tables)
    made_from = {"inputs": tables_digest(args.tables)}
    with (
        FeatureCache.open(args.views, expect=made_from) as views_cache,
        FeatureCache.open(args.images, expect=made_from) as images_cache,
    ):
        check_same_space(views_cache, images_cache, args.views[0], args.images[0])
        record = provenance(
            "train",
            dataclasses.asdict(params),
            {**made_from["inputs"], **digests_of(views_cache, images_cache)},
        )
        head = Head.initialise(views_cache.dim, tables.categories, config.seed, config.head).to(device)
        views = Views(
            views_cache,
            tables,
            head.categories,
            bins=config.viewpoint_bins,
            memory=args.memory / processes_here(),
            device=device,
        )
        _describe(views, len(views_cache))
        state = args.work / STATE
        result = train(
            head,
            views,
            config,
            state_path=state,
            identity=digest({"provenance": record, "device": device.type}),
            validator=_validator(config, tables, images_cache),
        )
        if rank() > 0:
            return
        say(f"keeping the head of step {result.best_step}")
        write_csv(args.losses, result.losses)
        write_csv(args.diagnostics, result.diagnostics)
        write_csv(args.validation, result.validation)
        curves = {path.name: sha256_file(path) for path in (args.losses, args.diagnostics, args.validation)}
        save_head(args.out, head, {**record, "best_step": result.best_step, "curves": curves})
        state.unlink()


def _validator(config: "TrainConfig", tables: "Tables", cache: "FeatureCache") -> "Validator | None":
    from spheremap.metrics.validation import make_validation
    from spheremap.model.training.distributed import rank, say

    if rank() > 0:
        return None
    if tables.pairs_of("val").empty:
        say("there are no pairs of the split 'val': the last head is kept")
        return None
    return make_validation(cache, tables, config.validation, config.seed, split="val")


def _describe(views: "Views", records: int) -> None:
    from spheremap.model.training.distributed import say, world_size

    by = "" if world_size() == 1 else f", {world_size()} processes"
    say(f"{len(views.usable)} training views, {views.held}{by}")
    if len(views.usable) < records:
        say(f"{records - len(views.usable)} views without foreground are left out")
