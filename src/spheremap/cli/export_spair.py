"""`spheremap export-spair`: write canonical tables and their pictures as a folder in SPair-71k layout."""

import argparse
import json
from pathlib import Path

HELP = "write a data set as a folder in SPair-71k layout"
STEP = "export-spair"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--tables", type=Path, required=True, help="directory of canonical tables")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; may be an earlier export")


def run(args: argparse.Namespace) -> None:
    """Export, and say how params.yaml can name the result."""
    from spheremap.base.files import atomic_path, refuse_foreign, write_json
    from spheremap.base.provenance import provenance
    from spheremap.data.spair_export import export_spair
    from spheremap.data.tables import PROVENANCE, made_by, read_tables, tables_digest

    refuse_foreign(args.out, made_by(args.out, STEP))
    tables = read_tables(args.tables)
    with atomic_path(args.out) as temporary:
        temporary.mkdir()
        class_ids = export_spair(tables, temporary)
        write_json(temporary / PROVENANCE, provenance(STEP, {}, tables_digest(args.tables)))
    masks = "own" if tables.images["mask_path"].any() else "none"
    root, ids = json.dumps(str(args.out)), json.dumps(class_ids)
    entry = f"{{layout: spair, root: {root}, class_ids: {ids}, masks: {{source: {masks}}}}}"
    print(f"{len(tables.images)} images, {len(tables.pairs)} pairs; entry for params.yaml:\n  {entry}")
