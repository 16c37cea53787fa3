"""Scoring a bundle on a labelled data set: any file of `spheremap bundle`, any entry of params.yaml.

The tables are the workflow's, made if need be. The features are those of the bundle's own backbone and fit,
kept under .work/evaluate for the next time. The bundle also sets the weight of the sphere in the method
`fused`, how points are described and how places are read; everything else is that of the sections `evaluate`
and `methods`. Of methods that learn, only those by domain can be scored: a bundle holds nothing else that
they learned.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from spheremap.api.bundle import About, Bundle, read_bundle
from spheremap.api.named_heads import find_bundle
from spheremap.api.project import PARAMS, make_tables
from spheremap.base.errors import InputError, ProvenanceError, did_you_mean
from spheremap.base.files import sha256_file
from spheremap.base.provenance import digest, provenance
from spheremap.base.tensors import digest_of
from spheremap.config import EvaluateSlice, Params, load_params
from spheremap.config.fields import Share
from spheremap.config.methods import companions_of, entries_of, learning
from spheremap.config.slices import parse
from spheremap.data.keypoint_groups import read_keypoint_groups
from spheremap.data.subjects import Subject
from spheremap.data.tables import read_tables, tables_digest
from spheremap.features.cache.builder import BLANK, CacheSpec, Kind, build_shard, select_sources
from spheremap.features.cache.reader import FeatureCache
from spheremap.methods import make_methods
from spheremap.methods.engine.fitting import load_published
from spheremap.methods.engine.queries import with_common_keypoint
from spheremap.methods.in_domain import InDomain
from spheremap.metrics.agreement import check_agreement
from spheremap.metrics.evaluate import VALIDATION, evaluate
from spheremap.metrics.results import write_results

IN_DOMAIN = "in_domain"  # kind of method whose network a bundle may hold
RESULTS = Path("results")  # of the workflow
KEPT = Path(".work/evaluate")  # feature caches, by data set and what they were made from


def score_bundle(
    path: Path,
    dataset: str,
    out: Path,
    *,
    split: str | None = None,
    sphere_weight: float | None = None,
    weights: Path | None = None,
    device: torch.device,
    threads: int,
) -> None:
    """Score a bundle on the pairs of a split, in the project whose top folder is the current one.

    Args:
        path: the bundle, or the name of a published head.
        dataset: an entry of `datasets` in params.yaml.
        out: folder for the results.
        split: "train", "val" or "test"; None: that of params.yaml.
        sphere_weight: share of the sphere in the method `fused`; None: the bundle's.
        weights: of the backbone; None: found as `Bundle.weights` does.
        device: where backbone and head run.
        threads: of the workflow, and to decode pictures.

    Raises:
        InputError: if parameters or data set cannot be used, or the split has nothing to measure.
        ProvenanceError: if the file is no bundle, or the weights are not its backbone's.
    """
    check_out(out)
    params = load_params(PARAMS)
    check_known(dataset, params)
    path = find_bundle(path, weights)
    bundle = read_bundle(path, device)
    about = bundle.about
    settings = _settings(about, params, dataset, split, sphere_weight)
    chosen = settings.evaluate
    names = (*chosen.methods, chosen.sweep.method)
    methods = make_methods(settings.methods, names)
    members = make_methods(settings.methods, entries_of(settings.methods, names))
    fitted = load_published(members.values(), bundle.head.dim, device)
    fitted |= {
        method: bundle.domain
        for method in methods.values()
        if isinstance(method, InDomain) and bundle.domain is not None
    }
    features = dataclasses.replace(
        params.features, precision=about.precision, fit=about.protocol.fit, shards=1
    )
    spec = CacheSpec(features, about.backbone, dataset)

    folder = make_tables(dataset, threads)
    tables, digests = read_tables(folder), tables_digest(folder)
    groups = read_keypoint_groups(settings.keypoint_groups, tables)
    measured = chosen.split
    # before minutes of features, not after
    with_common_keypoint(
        tables, tables.pairs_of(measured), where=f"split {measured!r} of data set {dataset!r}"
    )
    splits = {measured, VALIDATION} if chosen.sweep.values else {measured}
    sources = select_sources(tables, "images", measured=splits)
    kinds = ("images", *companions_of(settings.methods, names))
    with _features(bundle, spec, kinds, sources, digests, weights, device, threads) as cache:
        check_agreement(cache, bundle.head, path)
        results = evaluate(
            cache, tables, bundle.head, chosen, dataset=dataset, methods=methods, fitted=fitted,
            groups=groups, device=device,
        )  # fmt: skip
        inputs = {**digests, "images": digest(cache.provenance), "bundle": sha256_file(path)}
        inputs |= {
            f"methods/{name}": digest_of(fitted[method].state_dict())
            for name, method in members.items()
            if method in fitted
        }
    write_results(out, results, provenance("evaluate", dataclasses.asdict(settings), inputs))


def check_known(dataset: str, params: Params) -> None:
    """Refuse a data set that params.yaml does not have."""
    known = params.datasets
    if dataset not in known:
        raise InputError(
            f"unknown data set {dataset!r}",
            where=PARAMS,
            expected=f"one of {', '.join(known)}",
            fix=did_you_mean(dataset, known, "add an entry to `datasets`"),
        )


def check_out(out: Path) -> None:
    """Refuse the folder of the workflow's results."""
    if out.resolve() == RESULTS.resolve():
        raise InputError(
            "this folder holds the results of the workflow", where=out, fix="name another folder with --out"
        )


def _settings(
    about: About, params: Params, dataset: str, split: str | None, sphere_weight: float | None
) -> EvaluateSlice:
    """The sections `evaluate` and `methods` with what the bundle says of itself, and what else is given."""
    section, entries = dataclasses.asdict(params.evaluate), dict(params.methods)
    weight = about.sphere_weight
    if sphere_weight is not None:
        weight = parse(sphere_weight, Share, where="--sphere-weight")
    entries["fused"] = {**entries["fused"], "sphere_weight": weight}
    for name, entry in entries.items():
        if entry["kind"] == IN_DOMAIN and about.components:
            entries[name] = {**entry, "sphere_weight": weight, "components": about.components}
    inside = {IN_DOMAIN} if about.components else set()
    section["methods"] = [
        name
        for name in section["methods"]
        if all(entries[learner]["kind"] in inside for learner in learning(entries, [name]))
    ]
    section["split"] = split or section["split"]
    protocol = dataclasses.asdict(about.protocol)
    del protocol["fit"]  # of the features
    told: dict[str, Any] = {"evaluate": section | protocol, "methods": entries, "dataset": dataset}
    told["keypoint_groups"] = params.datasets[dataset].keypoint_groups
    settings: EvaluateSlice = parse(told, EvaluateSlice, where=PARAMS)
    return settings


def _features(
    bundle: Bundle,
    spec: CacheSpec,
    kinds: Sequence[Kind],
    sources: Sequence[Subject],
    tables: Mapping[str, str],
    weights: Path | None,
    device: torch.device,
    threads: int,
) -> FeatureCache:
    """The features of some images of tables with these digests: those that are kept, if they are the same.

    Caches of other kinds lie beside that of kind "images", which comes first.
    """
    # what tokens depend on, so that with other crops, say, the kept ones stay good
    params = {
        "dataset": spec.dataset,
        "images": digest([source.image_id for source in sources]),
        "backbone": dataclasses.asdict(spec.backbone),
        **{name: getattr(spec.features, name) for name in ("precision", "fit", "batch")},
    }
    made = provenance("cache", params, {"weights": bundle.about.weights_sha256, **tables})
    folder = KEPT / f"{spec.dataset}-{digest(made)[:12]}"
    for kind in kinds:
        file = folder / f"{kind}.h5"
        with suppress(ProvenanceError), FeatureCache.open([file], expect=made):
            continue  # else it is not there yet, or damaged
        with bundle.weights(weights) as own:
            build_shard(
                spec, sources if kind != "blank" else [BLANK], weights=own, kind=kind, shard=(0, 1),
                provenance=made, out=file, device=device, threads=threads,
            )  # fmt: skip
    return FeatureCache.open([folder / f"{kinds[0]}.h5"], expect=made)
