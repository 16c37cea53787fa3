"""Milestone `evaluate`: metrics, training curves and the report page."""

RESULTS = "results"


rule curves:
    """Lay the curves of the current data set beside its results; the head of each data set keeps its own."""
    input:
        losses=rules.train.output.losses,
        diagnostics=rules.train.output.diagnostics,
        validation=rules.train.output.validation,
    output:
        losses=report(
            f"{RESULTS}/training/losses.csv",
            caption="../report/losses.rst",
            category="Training",
        ),
        diagnostics=report(
            f"{RESULTS}/training/diagnostics.csv",
            caption="../report/diagnostics.rst",
            category="Training",
        ),
        validation=report(
            f"{RESULTS}/training/validation.csv",
            caption="../report/validation.rst",
            category="Training",
        ),
    log:
        "logs/curves.log",
    localrule: True
    conda:
        ENVIRONMENT
    shell:
        "cp {input.losses} {output.losses} 2> {log} && cp {input.diagnostics} {output.diagnostics} 2>> {log} "
        "&& cp {input.validation} {output.validation} 2>> {log}"


rule evaluate:
    """Match the pairs of the evaluation split with every method and score them."""
    input:
        params=params_slice(
            "evaluate",
            {
                "dataset": DATASET,
                "evaluate": config["evaluate"],
                "methods": config["methods"],
                "keypoint_groups": GROUPS,
            },
            f"{RESULTS}/evaluate.params.json",
        ),
        groups=OWN_GROUPS,
        tables=TABLES,
        provenance=f"{CANONICAL}/provenance.json",
        images=cache_files("images"),
        head=rules.train.output.head,
        fitted=expand(f"{MODEL}/methods/{{method}}.safetensors", method=LEARNING),
        learning=rules.fitted.output[0],
        companions=expand(f"{MODEL}/methods/{{kind}}.h5", kind=BESIDE),
    output:
        metrics=report(
            f"{RESULTS}/metrics.json",
            caption="../report/metrics.rst",
            category="Results",
        ),
        headline=expand(
            f"{RESULTS}/pck/{{method}}.json", method=config["evaluate"]["methods"]
        ),
        scores=report(
            f"{RESULTS}/scores.csv",
            caption="../report/scores.rst",
            category="Results",
        ),
        sweep=report(
            f"{RESULTS}/weight_sweep.csv",
            caption="../report/weight_sweep.rst",
            category="Results",
        ),
        predictions=f"{RESULTS}/predictions.csv.gz",
        provenance=f"{RESULTS}/provenance.json",
        params=f"{RESULTS}/evaluate.params.json",
    log:
        "logs/evaluate.log",
    benchmark:
        "logs/benchmarks/evaluate.tsv"
    conda:
        ENVIRONMENT
    threads: CORES
    resources:
        mem_mb=6000,
        gpu=GPU,
    params:
        tables=subpath(input.provenance, parent=True),
        out=subpath(output.metrics, parent=True),
        # if this fails, no page of other results shall stay
        stale=[f"{RESULTS}/report.html", f"{RESULTS}/report.params.json"],
        device=config["device"],
        fitted=subpath(input.learning, parent=True),
    shell:
        "rm -f {params.stale} && logged {log} spheremap evaluate --params {input.params} --tables {params.tables} "
        "--images {input.images[0]} --head {input.head} --fitted {params.fitted} --out {params.out} "
        "--device {params.device} --threads {threads} "
        "&& cp {input.params} {output.params}"


rule report_page:
    """Draw the page that shows tables, curves, sphere maps and matches."""
    input:
        params=params_slice(
            "report",
            {
                "dataset": DATASET,
                "report": config["report"],
                "evaluate": config["evaluate"],
                "methods": config["methods"],
            },
            f"{RESULTS}/report.params.json",
        ),
        tables=TABLES,
        provenance=f"{CANONICAL}/provenance.json",
        images=cache_files("images"),
        head=rules.train.output.head,
        curves=rules.curves.output,
        metrics=rules.evaluate.output.metrics,
        scores=rules.evaluate.output.scores,
        predictions=rules.evaluate.output.predictions,
        sweep=rules.evaluate.output.sweep,
        record=rules.evaluate.output.provenance,
        pictures=PICTURES,
    output:
        page=report(
            f"{RESULTS}/report.html", caption="../report/page.rst", category="Results"
        ),
        params=f"{RESULTS}/report.params.json",
    log:
        "logs/report.log",
    benchmark:
        "logs/benchmarks/report.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=4000,
    params:
        tables=subpath(input.provenance, parent=True),
        results=subpath(input.metrics, parent=True),
    shell:
        "logged {log} spheremap report --params {input.params} --tables {params.tables} --images {input.images[0]} "
        "--head {input.head} --results {params.results} --out {output.page} "
        "&& cp {input.params} {output.params}"


rule results:
    input:
        rules.curves.output,
        rules.evaluate.output,
        rules.report_page.output,
