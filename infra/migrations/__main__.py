"""`python -m infra.migrations`: bring the database up to date."""

from infra.migrations import migrate

if __name__ == "__main__":
    for migration in migrate():
        print(f"applied {migration.file}", flush=True)
