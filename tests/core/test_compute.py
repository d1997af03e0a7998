from pathlib import Path
from typing import Any

import pytest

from amlrealtimeai.core import AksCompute, ComputeTarget, Workspace
from amlrealtimeai.core.compute import AksUpdateConfiguration, SslConfiguration
from amlrealtimeai.core.pem import self_signed
from amlrealtimeai.errors import ConfigError, InvalidInputError, NotFoundError, UnsupportedError
from tests.serving.certificates import Authority


def create(workspace: Workspace, name: str, **settings: Any) -> AksCompute:
    made = ComputeTarget.create(workspace, name, AksCompute.provisioning_configuration(**settings))
    assert isinstance(made, AksCompute)
    return made


def test_a_cluster_as_in_the_original(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    made = create(workspace, "my-aks", vm_size="Standard_PB6s", agent_count=3, location="westus2")
    made.wait_for_completion(show_output=True)
    assert capsys.readouterr().out == 'AKS provisioning operation finished, operation "Succeeded"\n'
    assert (made.provisioning_state, made.provisioning_errors, made.get_status()) == ("Succeeded", None, "Succeeded")
    found = ComputeTarget(workspace, "my-aks")
    assert isinstance(found, AksCompute)
    assert (found.agent_count, found.vm_size, found.location, found.ssl_enabled) == (
        3,
        "Standard_PB6s",
        "westus2",
        False,
    )
    assert [target.name for target in ComputeTarget.list(workspace)] == ["my-aks"]
    assert repr(found) == (
        f"AksCompute(workspace={workspace.name}, name=my-aks, type=AKS, state=Succeeded, agents=3, "
        "vm_size=Standard_PB6s, location=westus2, run_in=notebook)"
    )
    assert found.serialize()["agent_count"] == 3
    for call in (found.get_credentials, found.detach, lambda: AksCompute.attach_configuration(cluster_name="x")):
        with pytest.raises(UnsupportedError):
            call()
    found.delete()
    assert workspace.compute_targets == {}
    with pytest.raises(
        NotFoundError, match=r"no compute target 'my-aks' .*there are: none. Create it: ComputeTarget.cre"
    ):
        made.get_status()


def test_defaults(workspace: Workspace) -> None:
    made = create(workspace, "aks")
    assert (made.agent_count, made.vm_size, made.location) == (1, "Standard_PB6s", "eastus")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"vm_size": "Standard_D3_v2"},
            r"vm_size: expected 'Standard_PB6s' \(the size that has an FPGA\), got 'Standard_D3",
        ),
        (
            {"location": "mars"},
            "location: expected one of 'eastus', 'southeastasia', 'westeurope', 'westus2', got 'mars'",
        ),
        ({"agent_count": 0}, "agent_count: expected a number of FPGAs of at least 1, got 0"),
        ({"agent_count": True}, "agent_count: expected a number"),
        ({"run_in": "cloud"}, "run_in: expected 'notebook' or 'process', got 'cloud'"),
        ({"keep_running": True}, "keep_running=True needs run_in='process'"),
        ({"ssl_cname": "localhost"}, "TLS needs .* together; missing: ssl_cert_pem_file, ssl_key_pem_file"),
    ],
)
def test_the_rules_for_fpga_machines(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        AksCompute.provisioning_configuration(**settings)


def test_the_quota_is_24_vcpus_in_a_region(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AMLREALTIMEAI_FPGA_QUOTA", raising=False)
    create(workspace, "full", agent_count=3)
    with pytest.raises(InvalidInputError) as caught:
        create(workspace, "more", agent_count=2)
    assert str(caught.value).startswith(
        "Operation results in exceeding quota limits of Core. Maximum allowed: 24, Current in use: 18, "
        "Additional requested: 12"
    )
    create(workspace, "last", agent_count=1)
    create(workspace, "elsewhere", agent_count=4, location="westeurope")
    workspace.compute_targets["full"].delete()
    create(workspace, "again", agent_count=3)
    with pytest.raises(InvalidInputError, match="Current in use: 0, Additional requested: 30"):
        create(workspace, "five", agent_count=5, location="westus2")


def test_another_quota_is_set_by_the_environment(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMLREALTIMEAI_FPGA_QUOTA", "30")
    create(workspace, "five", agent_count=5)
    with pytest.raises(InvalidInputError, match=r"Maximum allowed: 30, .* or set AMLREALTIMEAI_FPGA_QUOTA"):
        create(workspace, "one", agent_count=1)
    monkeypatch.setenv("AMLREALTIMEAI_FPGA_QUOTA", "many")
    with pytest.raises(InvalidInputError, match=r"AMLREALTIMEAI_FPGA_QUOTA: expected a number .* got 'many'"):
        create(workspace, "one", agent_count=1)


def test_cells_can_be_run_again(workspace: Workspace) -> None:
    first = create(workspace, "aks", agent_count=2)
    assert create(workspace, "aks", agent_count=2).serialize() == first.serialize()
    with pytest.raises(InvalidInputError, match="compute target 'aks' exists already with other settings"):
        create(workspace, "aks", agent_count=1)
    with pytest.raises(InvalidInputError, match="compute target name: expected 2 to 32 letters"):
        create(workspace, "a_b")


def test_tls_is_checked_and_its_key_is_kept_secret(
    workspace: Workspace, tls_files: dict[str, str], authority: Authority, tmp_path: Path
) -> None:
    configuration = AksCompute.provisioning_configuration(**tls_files)
    private = Path(tls_files["ssl_key_pem_file"]).read_text()
    made = ComputeTarget.create(workspace, "aks", configuration)
    assert isinstance(made, AksCompute) and made.ssl_enabled and made.ssl_cname == "localhost"
    assert made.certificate == Path(tls_files["ssl_cert_pem_file"]).read_text()
    secret = private.splitlines()[1]
    shown = (
        repr(configuration) + repr(made) + made._repr_html_() + str(made.serialize()) + repr(made.runner()._settings)
    )
    assert "PRIVATE KEY" not in shown and secret not in shown

    other = authority.issue("localhost")
    (tmp_path / "other.pem").write_bytes(other.key)
    with pytest.raises(ConfigError, match="the TLS certificate and key cannot be used"):
        AksCompute.provisioning_configuration(**{**tls_files, "ssl_key_pem_file": str(tmp_path / "other.pem")})
    with pytest.raises(NotFoundError, match=r"ssl_key_pem_file: absent\.pem does not exist; expected a PEM file"):
        AksCompute.provisioning_configuration(**{**tls_files, "ssl_key_pem_file": "absent.pem"})
    with pytest.raises(InvalidInputError, match="ssl_cname: expected a host name such as 'localhost'"):
        AksCompute.provisioning_configuration(**{**tls_files, "ssl_cname": "https://x:1"})


def test_switching_tls_on_without_a_certificate_is_refused() -> None:
    configuration = AksCompute.provisioning_configuration()
    said = "enable_ssl: expected ssl_cname, ssl_cert_pem_file and"
    with pytest.raises(InvalidInputError, match=said):
        configuration.enable_ssl()
    with pytest.warns(UserWarning, match="leaf_domain_label"), pytest.raises(InvalidInputError, match=said):
        configuration.enable_ssl(leaf_domain_label="contoso")


def test_tls_is_not_added_later(workspace: Workspace, tls_files: dict[str, str]) -> None:
    made = create(workspace, "aks")
    change = SslConfiguration(cert=tls_files["ssl_cert_pem_file"], key=tls_files["ssl_key_pem_file"], cname="localhost")
    with pytest.raises(ConfigError, match="was provisioned without TLS, which cannot be added"):
        made.update(AksUpdateConfiguration(change))
    assert "ssl_key" not in repr(change) and "key=" not in repr(change)


def test_self_signed_certificates_are_told_apart(authority: Authority) -> None:
    assert self_signed(authority.pem.decode())
    assert not self_signed(authority.issue("localhost").certificate.decode())
    assert not self_signed("no certificate") and not self_signed(
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"
    )
