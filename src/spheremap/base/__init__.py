"""What every room uses: errors, files, provenance."""
