"""The cards: what torch calls them, what they can compute in, and the figures that torch itself prints."""

import pytest

from toolkit.vram.gpus import GPU, MIB, GPUError, gpu, gpus


def test_at_least_25_cards_each_with_a_source():
    assert len(gpus()) >= 25
    assert all(card.source and card.memory > 10 * 2**30 for card in gpus().values())


@pytest.mark.parametrize(
    ("torch_name", "short"),
    [
        ("Tesla T4", "T4"),
        ("NVIDIA A100-SXM4-40GB", "A100 40 GB"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA H100 80GB HBM3", "H100 80 GB"),
        ("rtx4060ti16gb", "RTX 4060 Ti 16 GB"),
    ],
)
def test_found_by_the_name_that_torch_gives(torch_name, short):
    assert gpu(torch_name).name == short


def test_usable_memory_is_below_the_nominal_size():
    nominal = {"T4": 16, "L4": 24, "A100 40 GB": 40, "A100 80 GB": 80, "RTX 3060 12 GB": 12, "RTX 4090": 24}
    for name, gib in nominal.items():
        assert 0.9 * gib * 2**30 < gpu(name).memory < gib * 2**30


def test_colab_t4_has_no_bf16_and_ampere_has():
    assert (gpu("T4").bf16, gpu("T4").dtype) == (False, "float16")
    assert not gpu("V100 16 GB").bf16
    assert (gpu("A100 40 GB").bf16, gpu("A100 40 GB").dtype) == (True, "bfloat16")
    assert gpu("B200").bf16  # compute capability 10.0 is newer than 8.0, not older


def test_blas_workspace_is_32_mib_from_hopper_on():
    assert gpu("T4").blas_workspace == gpu("A100 40 GB").blas_workspace == 8_519_680
    assert gpu("H100 80 GB").blas_workspace == gpu("B200").blas_workspace == 32 * MIB


def test_the_t4_context_holds_what_nvidia_smi_showed_beyond_torch():
    low, high = gpu("T4").context
    assert low < 147_718_144 <= high + MIB


def test_unknown_card_names_the_known_ones():
    with pytest.raises(GPUError, match=r"'RX 580'.*T4.*RTX 4090"):
        gpu("RX 580")


def test_a_card_needs_memory():
    with pytest.raises(GPUError, match="maior que 0"):
        GPU("minha", 0, "8.6")
