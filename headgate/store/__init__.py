"""PostgreSQL: schema, migrations, writers and reads."""
