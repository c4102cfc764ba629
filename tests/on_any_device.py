"""The operators' tests, which `--device` and benchmarks/gpu run on a GPU: the most telling first.

The other tests are about the CPU, files or the training script.
"""

FILES = (
    "test_cuda.py",
    "test_mined_triplet_loss.py",
    "test_random_rules.py",
    "test_random_draws.py",
    "test_near_thresholds.py",
    "test_select_triplets.py",
    "test_pairwise.py",
    "test_triplet_loss.py",
    "test_triplet_margin_loss.py",
    "test_softmax_losses.py",
    "test_all_pairs.py",
    "test_neighbours.py",
    "test_anchor_swap.py",
    "test_memory.py",
    "test_memory_state.py",
    "test_compile.py",
    "test_properties.py",
    "test_losses.py",
    "test_miners.py",
    "test_indices.py",
    "test_inputs.py",
    "test_errors.py",
    "test_edges_of_the_contract.py",
)
