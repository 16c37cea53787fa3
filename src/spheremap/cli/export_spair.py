"""`spheremap export-spair`: write canonical tables and their pictures as a folder in SPair-71k layout."""

import argparse
import json
from pathlib import Path

from spheremap.base.errors import InputError

HELP = "write any data set as a folder in SPair-71k layout"
STEP = "export-spair"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--tables", type=Path, required=True, help="directory of canonical tables")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; may be an earlier export")


def run(args: argparse.Namespace) -> None:
    """Export, and say how params.yaml can name the result."""
    from spheremap.base.files import atomic_path, write_json
    from spheremap.base.provenance import provenance
    from spheremap.data.adapters.spair_export import export_spair
    from spheremap.data.tables import PROVENANCE, read_tables, tables_digest

    _refuse_foreign(args.out)
    tables = read_tables(args.tables)
    with atomic_path(args.out) as temporary:
        temporary.mkdir()
        class_ids = export_spair(tables, temporary)
        write_json(temporary / PROVENANCE, provenance(STEP, {}, tables_digest(args.tables)))
    entry = f"{{layout: spair, root: {json.dumps(str(args.out))}, class_ids: {json.dumps(class_ids)}}}"
    print(f"{len(tables.images)} images, {len(tables.pairs)} pairs; entry for params.yaml:\n  {entry}")


def _refuse_foreign(out: Path) -> None:
    """Never replace a folder that this command did not write: it may be somebody's only copy."""
    from spheremap.base.files import read_json
    from spheremap.data.tables import PROVENANCE

    empty_or_absent = not out.exists() or (out.is_dir() and not any(out.iterdir()))
    ours = (out / PROVENANCE).is_file() and read_json(out / PROVENANCE).get("step") == STEP
    if not (empty_or_absent or ours):
        raise InputError(
            "will not replace a folder that is not an earlier export",
            where=out,
            expected=f"no such path, an empty folder, or one with {PROVENANCE} of {STEP}",
            found="a folder with other contents" if out.is_dir() else "a file",
            fix="name another --out, or remove it yourself",
        )
