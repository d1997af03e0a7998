"""The tables of a workspace. Facts about an object are columns; free-form parts (tags, settings) are JSON text."""

APPLICATION_ID = 0x616D6C72  # "amlr", so that a foreign SQLite file is not mistaken for a workspace
SCHEMA_VERSION = 2

TABLES = (
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    # The last version ever given out: a deleted version is never given to something else.
    """CREATE TABLE counters (
        kind TEXT NOT NULL, name TEXT NOT NULL, last INTEGER NOT NULL, PRIMARY KEY (kind, name))""",
    """CREATE TABLE models (
        name TEXT NOT NULL, version INTEGER NOT NULL,
        blob TEXT NOT NULL, size INTEGER NOT NULL, filename TEXT NOT NULL, is_folder INTEGER NOT NULL,
        is_converted INTEGER NOT NULL, parent_id TEXT, description TEXT,
        framework TEXT, framework_version TEXT, tags TEXT NOT NULL, properties TEXT NOT NULL, created TEXT NOT NULL,
        PRIMARY KEY (name, version))""",
    """CREATE TABLE images (
        name TEXT NOT NULL, version INTEGER NOT NULL,
        blob TEXT NOT NULL, size INTEGER NOT NULL, digest TEXT NOT NULL, seconds REAL NOT NULL, log TEXT NOT NULL,
        model_name TEXT NOT NULL, model_version INTEGER NOT NULL, flavor TEXT NOT NULL, description TEXT,
        tags TEXT NOT NULL, properties TEXT NOT NULL, created TEXT NOT NULL,
        PRIMARY KEY (name, version),
        FOREIGN KEY (model_name, model_version) REFERENCES models (name, version))""",
    """CREATE TABLE compute_targets (
        name TEXT PRIMARY KEY, type TEXT NOT NULL, settings TEXT NOT NULL, created TEXT NOT NULL)""",
    # One row per server that was started; whether it still lives is told by its lock file, not by this row.
    """CREATE TABLE servers (
        id TEXT PRIMARY KEY, compute_target TEXT NOT NULL REFERENCES compute_targets (name) ON DELETE CASCADE,
        pid INTEGER NOT NULL, owner INTEGER NOT NULL, host TEXT NOT NULL, port INTEGER NOT NULL,
        created TEXT NOT NULL, run_in TEXT NOT NULL DEFAULT 'process')""",
    """CREATE TABLE webservices (
        name TEXT PRIMARY KEY, compute_target TEXT NOT NULL REFERENCES compute_targets (name),
        model_name TEXT NOT NULL, model_version INTEGER NOT NULL, image_name TEXT, image_version INTEGER,
        server TEXT REFERENCES servers (id) ON DELETE SET NULL,
        settings TEXT NOT NULL, description TEXT, tags TEXT NOT NULL, properties TEXT NOT NULL,
        created TEXT NOT NULL, updated TEXT NOT NULL,
        FOREIGN KEY (model_name, model_version) REFERENCES models (name, version),
        FOREIGN KEY (image_name, image_version) REFERENCES images (name, version))""",
    # Keys and private keys; the database file is readable by its owner only.
    """CREATE TABLE secrets (
        kind TEXT NOT NULL, owner TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL,
        PRIMARY KEY (kind, owner, name))""",
)

MIGRATIONS = {
    # Process ids tell nothing across containers: how a server runs is said, not concluded from them.
    1: (
        "ALTER TABLE servers ADD COLUMN run_in TEXT NOT NULL DEFAULT 'process'",
        "UPDATE servers SET run_in = 'notebook' WHERE pid = owner",
    ),
}
"""What brings the tables from a version to the next. Columns are only added: older processes go on with their own."""

JSON_COLUMNS = frozenset({"tags", "properties", "settings"})
"""Columns that hold JSON text; the store turns them into objects and back."""

BLOB_TABLES = ("models", "images")
"""Tables whose column `blob` keeps a blob alive."""

USERS = {
    "models": (
        ("images", "image", "Image", ("model_name", "model_version")),
        ("webservices", "webservice", "Webservice", ("model_name", "model_version")),
    ),
    "images": (("webservices", "webservice", "Webservice", ("image_name", "image_version")),),
    "compute_targets": (("webservices", "webservice", "Webservice", ("compute_target",)),),
}
"""Who may still need a row: table -> (user's table, its word, its class, its columns that name the row)."""

KEYS = {
    "models": ("name", "version"),
    "images": ("name", "version"),
    "compute_targets": ("name",),
    "webservices": ("name",),
    "servers": ("id",),
}
"""The primary key of each table that callers may address."""
