"""`python -m infra.migrations`: bring the database up to date."""

from infra.migrations import migrate

for migration in migrate():
    print(f"applied {migration.version:04d}_{migration.name}", flush=True)
