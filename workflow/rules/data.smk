"""Milestone `data`: whatever the layout of the current data set, its canonical tables."""

DOWNLOADED = "data/raw/{name}/.spheremap.json"


rule data:
    input:
        TABLES,


if SOURCE["layout"] == "shapes":

    rule render:
        """Draw the embedded data set: pictures, masks, keypoints, pairs."""
        input:
            params=params_slice("data", LAYOUT, f"{CANONICAL}/params.json"),
        output:
            tables=TABLES,
            provenance=f"{CANONICAL}/provenance.json",
            params=f"{CANONICAL}/params.json",
            pictures=[directory(folder) for folder in PICTURES],
        log:
            "logs/render.log",
        benchmark:
            "logs/benchmarks/render.tsv"
        conda:
            ENVIRONMENT
        threads: CORES
        resources:
            mem_mb=2000,
        params:
            out=subpath(output.provenance, parent=True),
        shell:
            "logged {log} spheremap render --params {input.params} --out {params.out} --jobs {threads} "
            "&& cp {input.params} {output.params}"

else:

    DOWNLOAD_PARAMS = {
        name: params_slice(f"download-{name}", config["downloads"][name])
        for name in downloads(SOURCE)
    }

    rule fetch:
        """Download and unpack archives, showing licence and citation first."""
        input:
            params=lambda wildcards: DOWNLOAD_PARAMS[wildcards.name],
        output:
            DOWNLOADED,
        log:
            "logs/fetch-{name}.log",
        benchmark:
            "logs/benchmarks/fetch-{name}.tsv"
        wildcard_constraints:
            name="|".join(map(re.escape, DOWNLOAD_PARAMS)) or "none",
        localrule: True  # compute nodes often cannot download
        conda:
            ENVIRONMENT
        resources:
            mem_mb=1000,
        params:
            out=subpath(output[0], parent=True),
            digests="data/digests.json",
            work=".work/downloads/{name}",
        shell:
            "logged {log} spheremap fetch --params {input.params} --name {wildcards.name} --out {params.out} "
            "--digests {params.digests} --work {params.work}"

    DATA_RECORD = f"{CANONICAL}/params.json"
    DATA_PARAMS = params_slice("data", LAYOUT | own_files(DATA_RECORD), DATA_RECORD)
    if workflow.is_main_process:
        check_folder(DATA_PARAMS, DATA_RECORD)

    rule ingest:
        """Read a data set in its own layout, and choose its masks."""
        input:
            params=DATA_PARAMS,
            masks=params_slice(
                "masks", SOURCE["masks"], f"{CANONICAL}/masks.params.json"
            ),
            weights=OWN_MASK_WEIGHTS,
            downloads=expand(DOWNLOADED, name=downloads(SOURCE)),
        output:
            tables=TABLES,
            provenance=f"{CANONICAL}/provenance.json",
            masks=f"{CANONICAL}/masks.csv",
            sheet=report(
                f"{CANONICAL}/contact_sheet.jpg",
                caption="../report/masks.rst",
                category="Data",
            ),
            params=f"{CANONICAL}/params.json",
            masks_params=f"{CANONICAL}/masks.params.json",
        log:
            ingest="logs/ingest.log",
            masks="logs/masks.log",
        benchmark:
            "logs/benchmarks/ingest.tsv"
        conda:
            ENVIRONMENT
        threads: CORES
        resources:
            mem_mb=4000,
        params:
            out=subpath(output.provenance, parent=True),
            tables=f"{WORK}/ingested",
            work=f"{WORK}/masks",
            device=config["device"],
        shell:
            "logged {log.ingest} spheremap ingest --params {input.params} --out {params.tables} "
            "&& logged {log.masks} spheremap masks --params {input.masks} --tables {params.tables} --out {params.out} "
            "--work {params.work} --device {params.device} --threads {threads} "
            "&& cp {input.params} {output.params} && cp {input.masks} {output.masks_params}"
