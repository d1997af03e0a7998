"""What all kinds of compute targets do to be listed: a checked name, a row, a certificate and its key as secrets."""

import sqlite3
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from amlrealtimeai.core.arguments import caller_level, check_name, check_path
from amlrealtimeai.core.certificates import names_in
from amlrealtimeai.core.compute.target import same_target
from amlrealtimeai.core.workspace import Workspace
from amlrealtimeai.errors import ComputeTargetInputError, ConfigError, MissingFileError
from amlrealtimeai.serving.ports.tls import Tls
from amlrealtimeai.store.rows import Row, find, insert, required, set_secrets, update

_SECRETS = ("certificate", "key")
_NAME = r"[A-Za-z][A-Za-z0-9-]{1,31}"
_HOST_NAME = r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?"


def list_target(
    workspace: Workspace,
    name: str,
    kind: str,
    values: Mapping[str, Any],
    check: Callable[[sqlite3.Connection], None] = lambda connection: None,
) -> None:
    """List a target; one with the same name, kind and values stays as it is.

    values: its settings by name, certificate and key among them, which become its secrets. check: may raise, in the
    same transaction, what speaks against a new one.
    """
    check_name("compute target name", name, _NAME, "2 to 32 letters, digits and '-', with a letter first")
    settings = {key: value for key, value in values.items() if key not in _SECRETS}
    kept = {key: values[key] for key in _SECRETS if values[key] is not None}
    with workspace.store.database.write() as connection:
        found = find(connection, "compute_targets", {"name": name})
        if found is not None:
            same = found["type"] == kind and found["settings"] == settings
            if same and workspace.store.secrets("compute_targets", name) == kept:
                return
            raise ComputeTargetInputError(
                f"compute target {name!r} exists already with other settings. Use it as it is with "
                f"ComputeTarget(workspace, {name!r}), delete that first, or choose another name."
            )
        check(connection)
        insert(connection, "compute_targets", {"name": name, "type": kind, "settings": settings})
        set_secrets(connection, "compute_targets", name, kept)


def replace_certificate(
    workspace: Workspace, row: Row, cname: str | None, certificate: str | Path, key: str | Path
) -> Row:
    """The target's row with another certificate and key, which its `refresh_certificate` then brings to what runs.

    Raises ConfigError for a target without TLS.
    """
    if row["settings"]["ssl_cname"] is None:
        raise ConfigError(
            f"the compute target {row['name']!r} was provisioned without TLS, which cannot be added while it exists. "
            "Provision another one with ssl_cname, ssl_cert_pem_file and ssl_key_pem_file."
        )
    name, chain, private = read_tls(cname or row["settings"]["ssl_cname"], certificate, key)
    assert chain is not None and private is not None
    with workspace.store.database.write() as connection:
        current = same_target(required(connection, "compute_targets", {"name": row["name"]}), row)
        settings = {**current["settings"], "ssl_cname": name}
        set_secrets(connection, "compute_targets", row["name"], {"certificate": chain, "key": private})
        return update(connection, "compute_targets", {"name": row["name"]}, settings=settings)


def read_tls(
    cname: str | None, certificate: str | Path | None, key: str | Path | None
) -> tuple[str | None, str | None, str | None]:
    """Host name and the PEM texts, checked; three times None when nothing was given."""
    given = {"ssl_cname": cname, "ssl_cert_pem_file": certificate, "ssl_key_pem_file": key}
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == 3:
        return None, None, None
    if missing:
        raise ComputeTargetInputError(f"TLS needs {', '.join(given)} together; missing: {', '.join(missing)}")
    check_name("ssl_cname", cname, _HOST_NAME, "a host name such as 'localhost', without a port or https://")
    texts = pem_pair(certificate, key)
    _warn_of_another_name(str(cname), texts[0])
    return cname, *texts


def pem_pair(certificate: Any, key: Any) -> tuple[str, str]:
    """A certificate chain and its private key as PEM texts, checked together; given as paths, texts or bytes."""
    chain, private = _pem("ssl_cert_pem_file", certificate), _pem("ssl_key_pem_file", key)
    Tls(chain.encode(), private.encode())
    return chain, private


def _warn_of_another_name(cname: str, certificate: str) -> None:
    """Clients compare the name that they call with those in the certificate."""
    names = names_in(certificate)
    parent = cname.lower().partition(".")[2]
    if names and not {cname.lower(), f"*.{parent}"} & {name.lower() for name in names}:
        warnings.warn(
            f"the certificate is valid for {', '.join(names)}, but not for ssl_cname={cname!r}: clients will "
            "refuse it.",
            stacklevel=caller_level(),
        )


def _pem(name: str, given: Any) -> str:
    """The text of a PEM file; PEM text itself, or its bytes, are taken as they are."""
    text = given.decode("utf-8", "replace") if isinstance(given, bytes) else str(given)
    if "-----BEGIN" in text:
        return text
    path = check_path(name, given)
    if not path.is_file():
        raise MissingFileError(f"{name}: {path} does not exist; expected a PEM file")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ComputeTargetInputError(
            f"{name}: {path} is no PEM text, which begins with -----BEGIN; a binary one is rewritten by "
            "openssl x509 -inform DER (a key: openssl pkey -inform DER)"
        ) from None
    except OSError as problem:
        raise ComputeTargetInputError(f"{name}: {path} cannot be read: {problem.strerror}") from None
