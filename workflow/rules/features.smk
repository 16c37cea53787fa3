"""Milestones `weights` and `features`: the frozen backbone and what it says of every image."""


rule weights:
    """Fetch the backbone's weights and convert them to timm's layout."""
    input:
        params=params_slice(
            f"weights-{BACKBONE}", WEIGHTS, f"models/backbones/{BACKBONE}.params.json"
        ),
        own=OWN_WEIGHTS,
    output:
        weights=BACKBONE_FILE,
        params=f"models/backbones/{BACKBONE}.params.json",
    log:
        f"logs/weights-{BACKBONE}.log",
    benchmark:
        f"logs/benchmarks/weights-{BACKBONE}.tsv"
    localrule: True  # compute nodes often cannot download
    conda:
        ENVIRONMENT
    resources:
        mem_mb=4000,
    shell:
        "logged {log} spheremap weights --params {input.params} --out {output.weights} "
        "&& cp {input.params} {output.params}"


rule cache:
    """Run the backbone over the images (`images`) or over random crops of them (`views`): one shard."""
    input:
        params=params_slice(
            "features",
            {
                "dataset": DATASET,
                "features": config["features"],
                "backbone": config["backbones"][BACKBONE],
            },
            f"{FEATURES}/params.json",
        ),
        tables=TABLES,
        provenance=f"{CANONICAL}/provenance.json",  # speaks for the pictures themselves
        pictures=PICTURES,
        weights=BACKBONE_FILE,
    output:
        f"{FEATURES}/{{kind}}-{{shard}}of{{shards}}.h5",
    log:
        "logs/cache-{kind}-{shard}of{shards}.log",
    benchmark:
        "logs/benchmarks/cache-{kind}-{shard}of{shards}.tsv"
    wildcard_constraints:
        kind="views|images",
        shard=r"\d+",
        shards=r"\d+",
    conda:
        ENVIRONMENT
    threads: max(1, CORES // SHARDS)
    resources:
        mem_mb=6000,
        gpu=GPU,
    params:
        tables=subpath(input.provenance, parent=True),
        device=config["device"],
    shell:
        "logged {log} spheremap cache --params {input.params} --tables {params.tables} --weights {input.weights} "
        "--kind {wildcards.kind} --shard {wildcards.shard}/{wildcards.shards} --out {output} "
        "--device {params.device} --threads {threads}"


rule cache_index:
    """Present the shards of a cache as one."""
    input:
        lambda wildcards: shard_files(wildcards.kind),
    output:
        f"{FEATURES}/{{kind}}.h5",
    log:
        "logs/cache-index-{kind}.log",
    benchmark:
        "logs/benchmarks/cache-index-{kind}.tsv"
    wildcard_constraints:
        kind="views|images",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
    shell:
        "logged {log} spheremap cache-index --shards {input} --out {output}"


rule features:
    """All shards of both caches, and the parameters that they were made with."""
    input:
        cache_files("views"),
        cache_files("images"),
        params=rules.cache.input.params,
    output:
        f"{FEATURES}/params.json",
    log:
        "logs/features.log",
    localrule: True
    conda:
        ENVIRONMENT
    shell:
        "cp {input.params} {output} 2> {log}"
