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
        threads: workflow.cores
        resources:
            mem_mb=2000,
        params:
            out=CANONICAL,
            work=f"{WORK}/render",
        shell:
            "spheremap render --params {input.params} --out {params.out} --work {params.work} --jobs {threads} "
            + TEE
            + " && cp {input.params} {output.params}"

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
        resources:
            mem_mb=2000,
        params:
            out=CANONICAL,
        shell:
            "spheremap ingest --params {input.params} --out {params.out} "
            + TEE
            + " && cp {input.params} {output.params}"
