PRAGMA application_id = 1634561138;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE compute_targets (
        name TEXT PRIMARY KEY, type TEXT NOT NULL, settings TEXT NOT NULL, created TEXT NOT NULL);
INSERT INTO "compute_targets" VALUES('aks','Aks','{"agent_count": 2, "keep_running": false, "location": "eastus", "run_in": "notebook", "ssl_cname": "localhost", "vm_size": "Standard_PB6s"}','2026-11-25T02:32:51.807314+00:00');
CREATE TABLE counters (
        kind TEXT NOT NULL, name TEXT NOT NULL, last INTEGER NOT NULL, PRIMARY KEY (kind, name));
INSERT INTO "counters" VALUES('models','abc',2);
INSERT INTO "counters" VALUES('models','means',1);
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
INSERT INTO "facts" VALUES('tag:term','3');
INSERT INTO "facts" VALUES('name','shipped');
INSERT INTO "facts" VALUES('location','eastus');
INSERT INTO "facts" VALUES('created','2026-11-25T02:32:51.631403+00:00');
INSERT INTO "facts" VALUES('friendly_name','shipped');
CREATE TABLE images (
        name TEXT NOT NULL, version INTEGER NOT NULL,
        blob TEXT NOT NULL, size INTEGER NOT NULL, digest TEXT NOT NULL, seconds REAL NOT NULL, log TEXT NOT NULL,
        model_name TEXT NOT NULL, model_version INTEGER NOT NULL, flavor TEXT NOT NULL, description TEXT,
        tags TEXT NOT NULL, properties TEXT NOT NULL, created TEXT NOT NULL,
        PRIMARY KEY (name, version),
        FOREIGN KEY (model_name, model_version) REFERENCES models (name, version));
CREATE TABLE models (
        name TEXT NOT NULL, version INTEGER NOT NULL,
        blob TEXT NOT NULL, size INTEGER NOT NULL, filename TEXT NOT NULL, is_folder INTEGER NOT NULL,
        is_converted INTEGER NOT NULL, parent_id TEXT, description TEXT,
        framework TEXT, framework_version TEXT, tags TEXT NOT NULL, properties TEXT NOT NULL, created TEXT NOT NULL,
        PRIMARY KEY (name, version));
INSERT INTO "models" VALUES('abc',1,'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',3,'abc.bin',0,0,NULL,'three letters',NULL,NULL,'{"a": "1"}','{"p": "q"}','2026-11-25T02:32:51.638283+00:00');
INSERT INTO "models" VALUES('abc',2,'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',3,'abc.bin',0,0,NULL,NULL,NULL,NULL,'{}','{}','2026-11-25T02:32:51.641386+00:00');
INSERT INTO "models" VALUES('means',1,'d5a2547350e3a964263aa44231ff10ed1daab7c07fe6e2120e640188df0bae29',1320,'means.accelonnx',0,1,NULL,NULL,NULL,NULL,'{}','{}','2026-11-25T02:32:51.658365+00:00');
CREATE TABLE secrets (
        kind TEXT NOT NULL, owner TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL,
        PRIMARY KEY (kind, owner, name));
INSERT INTO "secrets" VALUES('compute_targets','aks','certificate','a certificate');
INSERT INTO "secrets" VALUES('compute_targets','aks','key','a private key');
INSERT INTO "secrets" VALUES('webservices','means-svc','primary','the-first-key');
INSERT INTO "secrets" VALUES('webservices','means-svc','secondary','the-second-key');
CREATE TABLE servers (
        id TEXT PRIMARY KEY, compute_target TEXT NOT NULL REFERENCES compute_targets (name) ON DELETE CASCADE,
        pid INTEGER NOT NULL, owner INTEGER NOT NULL, host TEXT NOT NULL, port INTEGER NOT NULL,
        created TEXT NOT NULL);
INSERT INTO "servers" VALUES('0d82741f8741125e','aks',21362,21362,'127.0.0.1',33607,'2026-11-25T02:32:51.855050+00:00');
CREATE TABLE webservices (
        name TEXT PRIMARY KEY, compute_target TEXT NOT NULL REFERENCES compute_targets (name),
        model_name TEXT NOT NULL, model_version INTEGER NOT NULL, image_name TEXT, image_version INTEGER,
        server TEXT REFERENCES servers (id) ON DELETE SET NULL,
        settings TEXT NOT NULL, description TEXT, tags TEXT NOT NULL, properties TEXT NOT NULL,
        created TEXT NOT NULL, updated TEXT NOT NULL,
        FOREIGN KEY (model_name, model_version) REFERENCES models (name, version),
        FOREIGN KEY (image_name, image_version) REFERENCES images (name, version));
INSERT INTO "webservices" VALUES('means-svc','aks','means',1,NULL,NULL,'0d82741f8741125e','{"auth_enabled": true, "num_replicas": 1, "revision": 1}',NULL,'{"t": "u"}','{}','2026-11-25T02:32:51.810669+00:00','2026-11-25T02:32:51.810669+00:00');
COMMIT;
