"""What runs only where jobs share no work directory."""

if STORAGE:

    rule slice:
        """Put a slice of params.yaml, which was written where the run was started, where its jobs find it."""
        input:
            local(f"{WORK}/params/{{step}}.json"),
        output:
            f"{WORK}/params/{{step}}.json",
        log:
            "logs/slice-{step}.log",
        localrule: True
        conda:
            ENVIRONMENT
        shell:
            "cp {input} {output} 2> {log}"
