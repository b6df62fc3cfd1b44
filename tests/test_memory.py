"""How much memory there is and may be used: systems made of files, sizes as people write them, parts that fit."""

import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sensverify import memory
from sensverify.errors import InputError
from sensverify.memory import FALLBACK, LEAST, AtOnce, Budget, at_once, available, budget_of, parse_size

GB = 10**9


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("3GB", 3 * GB),
        ("3 gb", 3 * GB),
        (" 1.5GiB ", 3 * 2**29),
        ("512M", 512_000_000),
        ("17000kB", 17_000_000),
        ("16MiB", 2**24),
        ("20000000B", 20_000_000),
        ("0.5T", 500 * GB),
    ],
)
def test_sizes_read_as_people_write_them(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "3", "GB", "-3GB", "3 XB", "3GB of it", "1e9B", "nanGB", "infGB", "3,5GB", "0GB", "15MiB", "٣GB", "3iB",
     "9" * 400 + "GB", "1.GB", "2\nGB\nmore"],
)  # fmt: skip
def test_what_is_no_size_is_refused_in_one_line(text):
    with pytest.raises(InputError, match="remedy: pass another --memory") as caught:
        parse_size(text)
    assert "\n" not in str(caught.value)


@given(st.integers(LEAST, 2**60))
def test_a_size_in_bytes_reads_as_itself_up_to_the_digits_of_a_float(size):
    assert math.isclose(parse_size(f"{size}B"), size, rel_tol=1e-15)


@pytest.mark.parametrize(
    ("size", "text"), [(999, "999 bytes"), (1000, "1 kB"), (2**24, "16.8 MB"), (3 * GB, "3 GB"), (10**16, "1e+04 TB")]
)
def test_sizes_are_written_in_powers_of_a_thousand(size, text):
    assert memory.format_size(size) == text


def system(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


MEMINFO = "MemTotal:       64000000 kB\nMemFree:         1000000 kB\nMemAvailable:    8000000 kB\n"


def test_what_the_system_has_available_counts_not_what_is_idle(tmp_path):
    assert available(root=system(tmp_path, {"proc/meminfo": MEMINFO})) == 8_000_000 * 1024


def test_the_tightest_group_around_the_process_bounds_it(tmp_path):
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "0::/jobs/mine\n",
        "sys/fs/cgroup/memory.max": "max\n",
        "sys/fs/cgroup/memory.current": "1\n",
        "sys/fs/cgroup/jobs/memory.max": "3000000000\n",
        "sys/fs/cgroup/jobs/memory.current": "2500000000\n",
        "sys/fs/cgroup/jobs/memory.stat": "anon 7\ninactive_file 300000000\nactive_file 5\n",
        "sys/fs/cgroup/jobs/mine/memory.max": "4000000000\n",
        "sys/fs/cgroup/jobs/mine/memory.current": "100\n",
    }
    assert available(root=system(tmp_path, files)) == 800_000_000


def test_groups_of_the_first_version_bound_too(tmp_path):
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "12:cpu,cpuacct:/a\n5:memory:/host/path\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "2000000000\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "1500000000\n",
        "sys/fs/cgroup/memory/memory.stat": "inactive_file 9\ntotal_inactive_file 200000000\n",
    }
    assert available(root=system(tmp_path, files)) == 700_000_000


def test_an_overdrawn_group_leaves_nothing_rather_than_less(tmp_path):
    files = {
        "proc/self/cgroup": "0::/\n",
        "sys/fs/cgroup/memory.max": "1000\n",
        "sys/fs/cgroup/memory.current": "5000\n",
    }
    assert available(root=system(tmp_path, files)) == 0


@pytest.mark.parametrize("files", [{}, {"proc/meminfo": "nonsense\n", "proc/self/cgroup": "no colon\n0::/x\n"}])
def test_a_system_that_tells_nothing_is_taken_to_be_small(tmp_path, files):
    assert available(root=system(tmp_path, files)) == FALLBACK


def test_an_accelerator_is_asked_itself_and_what_torch_holds_idle_is_free(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5 * GB, 80 * GB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 3 * GB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 2 * GB)
    assert available("cuda:0") == 6 * GB


def test_the_default_budget_is_a_quarter_of_what_is_free(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda device: 8 * GB)
    assert budget_of() == Budget(total=2 * GB)
    assert budget_of("3GB") == Budget(total=3 * GB)


def test_a_budget_in_which_nothing_fits_is_refused():
    with pytest.raises(InputError, match="free memory"):
        Budget(total=LEAST - 1)


def test_two_texts_share_what_may_be_kept():
    budget = Budget(total=GB)
    assert budget.holds(GB // 2)
    assert not budget.holds(GB // 2 + 1)
    assert budget.part(0.75).holds(3 * GB // 8)
    assert not budget.part(0.25).holds(GB // 4)


@given(total=st.integers(LEAST, 10 * GB), cost=st.integers(1, GB), most=st.integers(1, 5000))
def test_a_pass_costs_no_more_than_its_share_and_is_the_usual_one_if_that_fits(total, cost, most):
    budget = Budget(total=total)
    if cost > total // 4:
        with pytest.raises(InputError, match="shorter --context"):
            budget.windows_per_pass(cost, most)
        return
    windows = budget.windows_per_pass(cost, most)
    assert 1 <= windows <= most
    assert windows * cost <= total // 4
    assert windows == most or 3 * windows * cost > total // 8


@given(
    preferred=st.integers(1, 5000),
    contexts=st.integers(1, 3000),
    entries_per_pair=st.integers(1, 10**6),
    entries=st.integers(0, 10**10),
)
def test_parts_fit_and_none_is_smaller_than_it_need_be(preferred, contexts, entries_per_pair, entries):
    found = at_once(preferred=preferred, contexts=contexts, entries_per_pair=entries_per_pair, entries=entries)
    assert 1 <= found.directions <= preferred
    assert 1 <= found.contexts <= contexts
    if found != AtOnce(1, 1):
        assert found.directions * found.contexts * entries_per_pair <= entries
    if found.contexts == contexts:  # all contexts: no direction less than preferred or than would fit
        assert found.directions == preferred or (found.directions + 1) * contexts * entries_per_pair > entries
    else:  # contexts in parts: even one direction is too much, and there are no more parts than needed
        assert found.directions == 1
        assert contexts * entries_per_pair > entries
        parts = math.ceil(contexts / found.contexts)
        assert parts == 1 or found.contexts == 1 or math.ceil(contexts / (parts - 1)) * entries_per_pair > entries


def test_enough_memory_changes_nothing():
    assert at_once(preferred=8, contexts=256, entries_per_pair=100, entries=10**9) == AtOnce(8, 256)


def test_no_pair_at_all_is_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="at least 1"):
        at_once(preferred=1, contexts=0, entries_per_pair=1, entries=1)


def test_a_score_and_its_gradient_made_in_parts_of_contexts_are_those_of_the_whole():
    """The formula in the module's docstring, with weights that carry gradient too."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 6, generator=generator, dtype=torch.float64)
    direction = torch.randn(6, generator=generator, dtype=torch.float64, requires_grad=True)

    def sums(contexts):
        seen = contexts @ direction
        weight = torch.exp(-seen.square())
        return (weight * seen.sin().square()).sum(), weight.sum()

    whole = sums(x)
    (expected,) = torch.autograd.grad((whole[0] / whole[1]).log(), direction)
    totals, slopes = [0.0, 0.0], [torch.zeros(6, dtype=torch.float64) for _ in range(2)]
    for part in torch.split(x, 7):
        for i, value in enumerate(sums(part)):
            totals[i] += float(value.detach())
            slopes[i] += torch.autograd.grad(value, direction, retain_graph=True)[0]
    torch.testing.assert_close(torch.tensor(totals[0] / totals[1]), (whole[0] / whole[1]).detach().float())
    torch.testing.assert_close(slopes[0] / totals[0] - slopes[1] / totals[1], expected)


def test_reading_a_size_loads_no_torch():
    code = "import sys, sensverify.memory as m; m.budget_of('3GB'); m.available(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_largest_resident_memory_is_this_programs_and_not_its_parents():
    """A child of a large process, that makes 64 MB itself: what getrusage tells includes its parent's."""
    weight = bytearray(2**28)
    for page in range(0, len(weight), 4096):
        weight[page] = 1
    program = (
        "from sensverify.memory import largest_resident\n"
        "before = largest_resident()\n"
        "made = bytearray(b'1') * 2**26\n"
        "print(before, largest_resident() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    before, made = map(int, done.stdout.split())
    if sys.platform == "linux":
        assert 0 < before < 2**27
        assert 0.9 * 2**26 < made < 2**27
