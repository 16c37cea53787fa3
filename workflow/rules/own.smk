"""Files of the user's own, from which the tables are made: whatever changes in them is seen.

Snakemake is told by a digest in the slice of parameters that `ingest` reads, DVC by the dependencies of its stage
`data`. What is drawn here or downloaded is known by its parameters.
"""

from ruamel.yaml import YAML

# keys of an entry that name a file or folder
PATH_KEYS = {
    "pf_pascal": ["root", "pairs"],
    "spair_u": ["root", "spair"],
    "ap10k": ["root", "crowd_list"],
}
WATCHED = {
    "data": list(OWN_MASK_WEIGHTS),
    "weights": OWN_WEIGHTS,
    "evaluate": OWN_GROUPS,
}
RECENT = 2e9  # ns; a file may change twice under one time stamp, if the first change is as young as this


def own_paths(entry):
    """Files and folders of a data set, and of the one it borrows from, that no download brings."""
    paths = own_paths(entry["borrow"]["entry"]) if entry.get("borrow") else []
    if entry["layout"] == "shapes" or "download" in entry:
        return paths
    for key in PATH_KEYS.get(entry["layout"], ["root"]):
        if entry[key] is not None:
            folder = entry["root"] if key == "crowd_list" else ""
            paths.append(os.path.normpath(os.path.join(folder, entry[key])))
    return paths


def look(path, found, links, seen):
    """Put the files below a path into `found`, and folders that are links, which DVC does not enter, into `links`."""
    if not os.path.isdir(path):
        found[path] = os.stat(path)
        return
    real = os.path.realpath(path)
    if real in seen:  # links that lead in a circle
        return
    seen.add(real)
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir():
                if entry.is_symlink():
                    links.append(entry.path)
                look(entry.path, found, links, seen)
            elif entry.is_file():
                found[entry.path] = entry.stat()


def digest_of(found, memory):
    """SHA-256 over names and contents. `memory` keeps those of single files, so that only changed ones are read."""
    try:
        known = json.loads(memory.read_text())
    except (OSError, ValueError):
        known = {}
    before = dict(known)
    now = time.time_ns()
    signs = {
        path: [s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino]
        for path, s in found.items()
    }
    fresh = [path for path in signs if known.get(path, [None])[1:] != signs[path]]
    if len(fresh) > 1000:
        print(f"{len(fresh)} new or changed files are read", file=sys.stderr)
    for path in fresh:
        with open(path, "rb") as stream:
            known[path] = [
                hashlib.file_digest(stream, "sha256").hexdigest(),
                *signs[path],
            ]
    whole = hashlib.sha256()
    for path in sorted(found):
        whole.update(f"{path}\0{known[path][0]}\n".encode())
    kept = {path: known[path] for path in found if now - signs[path][2] > RECENT}
    if kept != before:
        partial = memory.with_suffix(f".{os.getpid()}.partial")
        partial.write_text(json.dumps(kept))
        partial.replace(memory)
    return whole.hexdigest()


def watch():
    """List the user's own files and folders among the dependencies of DVC's stages, so that `dvc repro` sees changes."""
    path = Path("dvc.yaml")
    if not path.exists():
        return
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 4096
    content = yaml.load(path)
    news = []
    for name, paths in WATCHED.items():
        stage = content["stages"][name]
        missing = [path for path in paths if path not in stage.get("deps", [])]
        if missing:
            if "deps" not in stage:
                stage.insert(1, "deps", [])
            stage["deps"] += missing
            news.append(f"stage `{name}` depends on {', '.join(missing)}")
    if news:
        partial = path.with_suffix(f".{os.getpid()}.partial")
        with partial.open("w", encoding="utf-8") as stream:
            yaml.dump(content, stream)
        partial.replace(path)
        print(f"dvc.yaml: {'; '.join(news)} from now on", file=sys.stderr)


def own_files(record):
    """What the slice of `ingest` says of the user's own files: nothing if there are none."""
    paths = own_paths(SOURCE)
    if not paths:
        return {}
    told = Path(WORK) / "own.json"  # to the processes of single jobs
    if not workflow.is_main_process and told.exists():
        return json.loads(told.read_text())
    output = os.path.realpath(f"data/{DATASET}")
    for path in paths:
        if output == os.path.realpath(path) or output.startswith(
            os.path.realpath(path) + os.sep
        ):
            raise WorkflowError(
                f"params.yaml: datasets.{DATASET} lies in {path!r}, expected another folder than data/{DATASET}, where "
                f"its tables and features are written; move it, to data/raw/{DATASET} say, and correct the entry"
            )
    told.parent.mkdir(parents=True, exist_ok=True)
    found, links = {}, []
    try:
        for path in paths:
            look(path, found, links, set())
        own = {"files": digest_of(found, Path(WORK) / "own-files.json")}
    except FileNotFoundError:
        # as they were when the tables were made: a clone that pulled these can do without
        made = json.loads(Path(record).read_text()) if Path(record).exists() else {}
        return {key: made[key] for key in made.keys() & {"files"}}
    except OSError as error:
        raise WorkflowError(
            f"{error.filename} cannot be read: {error.strerror} (a file of datasets.{DATASET})"
        )
    told.write_text(json.dumps(own))
    WATCHED["data"] += [*paths, *links]
    return own
