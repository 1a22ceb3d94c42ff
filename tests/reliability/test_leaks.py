"""Memory and programs of a process that lives long: the short form of `benchmarks.reliability.leaks`."""

import mmap

from benchmarks.reliability import leaks


def test_edits_and_embeddings_compile_nothing_after_the_first():
    edits, embeds = leaks.edits_and_embeds(40, 5)
    assert edits.compiled == embeds.compiled == 0
    assert edits.kb_a_call < 60  # of 40 calls; of 500 see docs/reliability.md


def test_growth_is_seen():
    kept = []

    def grow(number):
        kept.append(mmap.mmap(-1, 2**18))  # what other tests have freed is not used again
        kept[-1].write(bytes(2**18))

    growth = leaks.watched(grow, 60)
    assert 200 < growth.kb_a_call < 300  # 256 KiB a call
    assert leaks.slope([0.0, 9.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]) == 1.0
