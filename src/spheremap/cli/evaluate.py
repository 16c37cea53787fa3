"""Command `evaluate`: score a bundle on a labelled data set or, for the workflow, a head on its features."""

import argparse
import dataclasses
import os
import sys
from pathlib import Path

from spheremap.base.errors import InputError

HELP = "match the pairs of a split with every method, and score them (PCK, KAP, intervals)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the two forms and what they share."""
    from spheremap.api.arguments import DEVICE_HELP

    bundle = parser.add_argument_group(
        "a bundle on any data set",
        "In the top folder of a project; settings that are not here are those of params.yaml.",
    )
    bundle.add_argument(
        "--model",
        type=Path,
        help="bundle, as `spheremap bundle` writes it, or a published head, such as spair-71k",
    )
    bundle.add_argument(
        "--dataset", help="entry of `datasets` in params.yaml; its tables are made if need be"
    )
    bundle.add_argument(
        "--split",
        choices=["train", "val", "test"],
        help="whose pairs are matched (default: that of params.yaml)",
    )
    bundle.add_argument(
        "--sphere-weight",
        type=float,
        help="weight of the sphere in the method fused, 0 to 1 (default: bundle's)",
    )
    bundle.add_argument(
        "--weights", type=Path, help="weights of the backbone (default: the bundle's own, else their source)"
    )
    workflow = parser.add_argument_group("the workflow's form", "Every input by its file.")
    workflow.add_argument(
        "--params", type=Path, help="JSON with the keys `evaluate`, `methods` and `dataset`"
    )
    workflow.add_argument("--tables", type=Path, help="folder of the canonical tables")
    workflow.add_argument("--images", type=Path, nargs="+", help="feature cache of whole images")
    workflow.add_argument("--head", type=Path, help="trained head")
    workflow.add_argument(
        "--fitted",
        type=Path,
        help="folder of what methods need: what `spheremap fit` wrote, and further feature caches, such as "
        "mirrored.h5",
    )
    parser.add_argument(
        "--out", type=Path, help="folder for the results (default, of a bundle: results/<model>-on-<dataset>)"
    )
    parser.add_argument("--device", default="auto", help=DEVICE_HELP)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="CPU threads (default: all)")


def run(args: argparse.Namespace) -> None:
    """Evaluate and write the results."""
    import torch

    _check_form(args)
    torch.set_num_threads(max(1, args.threads))
    if args.model is None:
        _score_head(args)
    else:
        _score_bundle(args)


def _check_form(args: argparse.Namespace) -> None:
    """The options must be those of one form, and none that it needs may lack.

    Raises:
        InputError: if they are not.
    """
    forms = [
        ({"model", "dataset"}, {"split", "sphere_weight", "weights", "out"}),
        ({"params", "tables", "images", "head", "out"}, {"fitted"}),
    ]
    own = {name for needed, optional in forms for name in needed | optional}
    given = {name for name in own if getattr(args, name) is not None}
    if not any(needed <= given <= needed | optional for needed, optional in forms):
        raise InputError(
            "the options are not those of one form of the command",
            expected="--model and --dataset, with the params.yaml of the current folder; or --params, "
            "--tables, --images, --head and --out",
            found=", ".join("--" + name.replace("_", "-") for name in sorted(given)) or "none of them",
            fix="see `spheremap evaluate --help`",
        )


def _score_bundle(args: argparse.Namespace) -> None:
    # loads timm, which the workflow's form does without
    from spheremap.api.score_bundle import RESULTS, score_bundle
    from spheremap.base.device import choose_device
    from spheremap.metrics.results import METRICS
    from spheremap.metrics.table import format_file

    out = args.out or RESULTS / f"{args.model.stem}-on-{args.dataset}"
    score_bundle(
        args.model,
        args.dataset,
        out,
        split=args.split,
        sphere_weight=args.sphere_weight,
        weights=args.weights,
        device=choose_device(args.device),
        threads=max(1, args.threads),
    )
    print(format_file(out / METRICS)[0])
    print(f"all results are in {out}", file=sys.stderr)


def _score_head(args: argparse.Namespace) -> None:
    from spheremap.base.device import choose_device
    from spheremap.base.files import sha256_file
    from spheremap.base.provenance import digest, provenance
    from spheremap.base.tensors import digest_of
    from spheremap.config import EvaluateSlice
    from spheremap.config.methods import entries_of, learning
    from spheremap.config.slices import read_slice
    from spheremap.data.keypoint_groups import read_keypoint_groups
    from spheremap.data.tables import read_tables, tables_digest
    from spheremap.features.cache.reader import FeatureCache
    from spheremap.features.cache.space import feature_space
    from spheremap.methods import make_methods
    from spheremap.methods.engine.fitting import load_fitted, load_published
    from spheremap.metrics.agreement import check_agreement
    from spheremap.metrics.evaluate import evaluate
    from spheremap.metrics.results import write_results
    from spheremap.model.head import load_head

    params = read_slice(args.params, EvaluateSlice)
    chosen = params.evaluate
    names = (*chosen.methods, chosen.sweep.method)
    methods = make_methods(params.methods, names)
    learners = make_methods(params.methods, learning(params.methods, names))
    if learners and args.fitted is None:
        raise InputError(
            "methods must be fitted first", where=args.params, expected="--fitted", found=", ".join(learners)
        )
    device = choose_device(args.device)
    tables = read_tables(args.tables)
    groups = read_keypoint_groups(params.keypoint_groups, tables)
    inputs = tables_digest(args.tables)
    head = load_head(args.head, device)
    with FeatureCache.open(args.images, expect={"inputs": inputs}, companions=args.fitted) as cache:
        check_agreement(cache, head, args.head)
        members = make_methods(params.methods, entries_of(params.methods, names))
        fitted = load_published(members.values(), cache.dim, device)
        inputs |= {"images": digest(cache.provenance), "head": sha256_file(args.head)}
        inputs |= {
            f"methods/{name}": digest_of(fitted[method].state_dict())
            for name, method in members.items()
            if method in fitted
        }
        for name, method in learners.items():
            path = args.fitted / f"{name}.safetensors"
            expected = {
                "step": "fit",
                "params": {"method": name, "methods": entries_of(params.methods, [name])},
                "inputs": {"head": inputs["head"], "features": digest(feature_space(cache.provenance))},
            }
            fitted[method] = load_fitted(path, method, cache.dim, expected, device)
            inputs[f"methods/{name}"] = sha256_file(path)
        results = evaluate(
            cache,
            tables,
            head,
            chosen,
            dataset=params.dataset,
            methods=methods,
            fitted=fitted,
            groups=groups,
            device=device,
        )
    write_results(args.out, results, provenance("evaluate", dataclasses.asdict(params), inputs))
