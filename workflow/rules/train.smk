"""Milestones `train` and `fit`: the spherical head, and what the chosen methods need beside it."""


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
        diagnostics=f"{MODEL}/curves/diagnostics.csv",
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
        "--images {input.images[0]} --out {output.head} --losses {output.losses} --diagnostics {output.diagnostics} "
        "--validation {output.validation} --work {params.work} --device {params.device} --threads {threads} "
        "&& cp {input.params} {output.params}"


CHOSEN = {
    "methods": config["evaluate"]["methods"],
    "sweep": config["evaluate"]["sweep"]["method"],
}
# those that learn, among the chosen ones and those that these are made of, and kinds of caches that they need
NAMES = [*CHOSEN["methods"], CHOSEN["sweep"]]
LEARNING = learning(config["methods"], NAMES)
BESIDE = companions_of(config["methods"], NAMES)
FIT_PARAMS = {
    name: params_slice(
        f"fit-{name}",
        {"dataset": DATASET, "methods": entries_of(config["methods"], [name])},
        f"{MODEL}/methods/{name}.params.json",
    )
    for name in LEARNING
}


rule fit:
    """Let a method learn from the cached views, as its entry says."""
    input:
        params=lambda wildcards: FIT_PARAMS[wildcards.method],
        tables=TABLES,
        provenance=f"{CANONICAL}/provenance.json",
        views=cache_files("views"),
        images=cache_files("images"),
        head=rules.train.output.head,
    output:
        fitted=f"{MODEL}/methods/{{method}}.safetensors",
        curve=report(
            f"{MODEL}/methods/{{method}}.csv",
            caption="../report/fit.rst",
            category="Training",
        ),
        params=f"{MODEL}/methods/{{method}}.params.json",
    log:
        "logs/fit-{method}.log",
    benchmark:
        "logs/benchmarks/fit-{method}.tsv"
    wildcard_constraints:
        method="|".join(map(re.escape, LEARNING)) or "(?!)",
    conda:
        ENVIRONMENT
    threads: CORES
    resources:
        mem_mb=8000,
        gpu=GPU,
    params:
        tables=subpath(input.provenance, parent=True),
        work=f"{WORK}/fit/{{method}}",
        device=config["device"],
    shell:
        "logged {log} spheremap fit --method {wildcards.method} --params {input.params} --tables {params.tables} "
        "--views {input.views[0]} --images {input.images[0]} --head {input.head} --out {output.fitted} "
        "--curve {output.curve} --work {params.work} --device {params.device} --threads {threads} "
        "&& cp {input.params} {output.params}"


rule companion:
    """Run the backbone over what a chosen method needs beside whole images: their mirror images, or a blank one."""
    input:
        params=rules.cache.input.params,
        tables=TABLES,
        provenance=f"{CANONICAL}/provenance.json",
        pictures=PICTURES,
        weights=BACKBONE_FILE,
    output:
        f"{MODEL}/methods/{{kind}}.h5",
    log:
        "logs/companion-{kind}.log",
    benchmark:
        "logs/benchmarks/companion-{kind}.tsv"
    wildcard_constraints:
        kind="|".join(BESIDE) or "(?!)",
    conda:
        ENVIRONMENT
    threads: CORES
    resources:
        mem_mb=6000,
        gpu=GPU,
    params:
        tables=subpath(input.provenance, parent=True),
        device=config["device"],
    shell:
        "logged {log} spheremap cache --params {input.params} --tables {params.tables} --weights {input.weights} "
        "--kind {wildcards.kind} --out {output} --device {params.device} --threads {threads}"


rule fitted:
    """All that the chosen methods need, and the parameters that say what this is."""
    input:
        expand(f"{MODEL}/methods/{{method}}.safetensors", method=LEARNING),
        expand(f"{MODEL}/methods/{{kind}}.h5", kind=BESIDE),
        params=params_slice(
            "fitted",
            {"dataset": DATASET, "methods": config["methods"], "chosen": CHOSEN},
            f"{MODEL}/methods/params.json",
        ),
    output:
        f"{MODEL}/methods/params.json",
    log:
        "logs/fitted.log",
    localrule: True
    conda:
        ENVIRONMENT
    shell:
        "cp {input.params} {output} 2> {log}"
