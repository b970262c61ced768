import httpx
import psycopg


def test_every_test_has_an_empty_database_of_its_own(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()

    assert tables == (0,)


def test_m(mlflow_uri: str) -> None:
    assert httpx.get(mlflow_uri + "/health").text == "OK"
