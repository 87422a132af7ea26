"""How programs are cut into kernels, loops and chunks: the constants that depend on the target."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scheduling:
    """The scheduling constants of one target. The defaults are those of the llvm target, measured on CPUs."""

    # Fusion. Work is counted in simple operations per element; 512 is about 60 functions of vector math. Each phase (a
    # fold that waits for another one) is a loop of its own, which takes LLVM about 30 ms.
    max_work: int = 512
    max_phases: int = 6

    # Threads. How much one chunk holds at least: simple operations of a kernel (about 2 µs), bytes of a copy,
    # instructions of a loop's body, lanes that contain loops.
    grain: int = 16384
    copy_grain: int = 256 << 10
    instruction_grain: int = 64
    lane_grain: int = 16

    # Loops. A kernel with fewer parallel iterations than `min_parallel` is cut into more: rows into blocks of
    # `map_block` elements, and folds of at least `long_fold` elements into at most `max_partial_folds` partial folds.
    min_parallel: int = 8
    map_block: int = 8192
    long_fold: int = 65536
    max_partial_folds: int = 64
    # Rows that are shorter are looped over within one iteration of the parallel loop, if there are enough of those.
    short_row: int = 1024
    # Accumulators of a few folds over so many columns stay in a 32 KiB cache.
    column_block: int = 1024
    # Transposed accesses walk through tiles of this side, so that all of a cache line is used before it is evicted.
    tile: int = 32
    # Short rows of joined arrays are written in blocks of this many bytes, which stay in the first cache.
    join_block: int = 16 << 10

    # Loops over scalars. Larger arrays stay in memory; what is beyond the other limits takes LLVM too long. A function
    # of vector math counts as `math_cost` operations.
    max_scalar_elements: int = 32
    max_scalar_operations: int = 2000
    max_scalar_names: int = 8000
    math_cost: int = 20
    # A large array that such a loop copies, so as to update it in place, takes at most so many elements of scratch.
    max_scratch_elements: int = 1 << 16
    # Branches that cost at most this many operations are all computed, and one is selected.
    cheap_branches: int = 12
    # Lanes that take a step together: two vectors of float32 and more of wider types, so that one computes while
    # another waits.
    lanes: int = 32

    # Products in blocks. One whose result has at least `min_blocked` elements is computed in blocks of at most
    # `max_block` elements, which stay in a cache. Smaller blocks than `min_block` are not worth a call.
    min_blocked: int = 1 << 18
    min_block: int = 1 << 14
    max_block: int = 1 << 18

    # Matrix products as kernels. BLAS is faster for matrices larger than the largest. Tiles of up to so many rows by so
    # many bytes of columns leave a few of 16 registers of 32 bytes, or of 32 of 16 bytes, for operands. Rows of a chunk
    # stay in the second-level cache.
    largest_product: int = 96
    tile_rows: int = 6
    tile_bytes: int = 64
    product_chunk_bytes: int = 128 << 10
