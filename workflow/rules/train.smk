"""Milestone `train`: the spherical head and, where asked for, the feature adapter."""


rule train:
    """Train sphere mapper and prototypes on the cached views, choosing the checkpoint on validation."""
    input:
        params=params_slice(
            "train",
            {"dataset": DATASET, "train": config["train"]},
            f"{MODEL}/params.json",
        ),
        tables=TABLES,
        provenance=f"{CANONICAL}/provenance.json",
        views=cache_files("views"),
        images=cache_files("images"),
    output:
        head=f"{MODEL}/head.safetensors",
        losses=f"{MODEL}/curves/losses.csv",
        health=f"{MODEL}/curves/health.csv",
        validation=f"{MODEL}/curves/validation.csv",
        params=f"{MODEL}/params.json",
    log:
        "logs/train.log",
    benchmark:
        "logs/benchmarks/train.tsv"
    conda:
        ENVIRONMENT
    threads: CORES
    resources:
        mem_mb=8000,
        gpu=GPU * config["processes"],
        processes=config["processes"],  # a resource: another number is no reason to train again
    params:
        tables=subpath(input.provenance, parent=True),
        work=f"{WORK}/train",
        device=config["device"],
    shell:
        "logged {log} together {resources.processes} train --params {input.params} --tables {params.tables} --views {input.views[0]} "
        "--images {input.images[0]} --out {output.head} --losses {output.losses} --health {output.health} "
        "--validation {output.validation} --work {params.work} --device {params.device} --threads {threads} "
        "&& cp {input.params} {output.params}"


rule adapt:
    """Train the feature adapter on pseudo-labels that the head confirms, choosing it on validation."""
    input:
        params=params_slice(
            "adapt",
            {"dataset": DATASET, "adapter": config["adapter"]},
            f"{MODEL}/adapter.params.json",
        ),
        tables=TABLES,
        provenance=f"{CANONICAL}/provenance.json",
        views=cache_files("views"),
        images=cache_files("images"),
        head=rules.train.output.head,
    output:
        adapter=f"{MODEL}/adapter.safetensors",
        curve=report(
            f"{MODEL}/adapter.csv",
            caption="../report/adapter.rst",
            category="Training",
        ),
        params=f"{MODEL}/adapter.params.json",
    log:
        "logs/adapt.log",
    benchmark:
        "logs/benchmarks/adapt.tsv"
    conda:
        ENVIRONMENT
    threads: CORES
    resources:
        mem_mb=8000,
        gpu=GPU,
    params:
        tables=subpath(input.provenance, parent=True),
        work=f"{WORK}/adapt",
        device=config["device"],
    shell:
        "logged {log} spheremap adapt --params {input.params} --tables {params.tables} --views {input.views[0]} "
        "--images {input.images[0]} --head {input.head} --out {output.adapter} --curve {output.curve} "
        "--work {params.work} --device {params.device} --threads {threads} "
        "&& cp {input.params} {output.params}"


# nothing at all unless the adapter is switched on
ADAPTER = rules.adapt.output.adapter if config["adapter"]["enabled"] else []


rule trained:
    input:
        rules.train.output,
        rules.adapt.output if ADAPTER else [],
