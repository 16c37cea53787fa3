"""Milestone `data`: whatever the layout of the current data set, its canonical tables."""

LAYOUT_FILES = [
    str(path) for path in sorted(Path(SOURCE["root"]).glob("Layout/*/*.txt"))
]


rule data:
    input:
        TABLES,


if SOURCE["layout"] == "shapes":

    rule render:
        """Draw the embedded data set: pictures, masks, keypoints, pairs."""
        input:
            params=params_slice("data", SOURCE, f"{CANONICAL}/params.json"),
        output:
            tables=TABLES,
            provenance=f"{CANONICAL}/provenance.json",
            params=f"{CANONICAL}/params.json",
        log:
            "logs/render.log",
        benchmark:
            "logs/benchmarks/render.tsv"
        conda:
            ENVIRONMENT
        threads: workflow.cores
        resources:
            mem_mb=2000,
        params:
            out=subpath(output.provenance, parent=True),
            work=f"{WORK}/render",
        shell:
            "logged {log} spheremap render --params {input.params} --out {params.out} --work {params.work} --jobs {threads} "
            "&& cp {input.params} {output.params}"

else:

    rule ingest:
        """Read a folder in SPair-71k layout."""
        input:
            params=params_slice("data", SOURCE, f"{CANONICAL}/params.json"),
            layout=LAYOUT_FILES,
        output:
            tables=TABLES,
            provenance=f"{CANONICAL}/provenance.json",
            params=f"{CANONICAL}/params.json",
        log:
            "logs/ingest.log",
        benchmark:
            "logs/benchmarks/ingest.tsv"
        conda:
            ENVIRONMENT
        resources:
            mem_mb=2000,
        params:
            out=subpath(output.provenance, parent=True),
        shell:
            "logged {log} spheremap ingest --params {input.params} --out {params.out} "
            "&& cp {input.params} {output.params}"
