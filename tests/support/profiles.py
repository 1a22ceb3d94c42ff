"""Colour profiles for tests."""

import struct


def wide_profile(gamma=1.8):
    """An RGB profile (ICC.1:2001, matrix and curves) of wider primaries and another curve than sRGB's, as bytes."""
    def fixed(*values):
        return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    parts = {b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"wide\0" + bytes(79),
             b"cprt": b"text\0\0\0\0none\0\0\0\0",
             b"wtpt": fixed(0.9642, 1.0, 0.8249), b"rXYZ": fixed(0.6097, 0.3111, 0.0195),
             b"gXYZ": fixed(0.2053, 0.6257, 0.0609), b"bXYZ": fixed(0.1492, 0.0632, 0.7446), b"rTRC": curve,
             b"gTRC": curve, b"bTRC": curve}
    table, body, at = struct.pack(">I", len(parts)), b"", 132 + 12 * len(parts)
    for name, part in parts.items():
        part += bytes(-len(part) % 4)
        table += name + struct.pack(">II", at, len(part))
        body, at = body + part, at + len(part)
    head = struct.pack(">I", at) + bytes(4) + struct.pack(">I", 0x02400000) + b"mntrRGB XYZ " + bytes(12) + b"acsp"
    head += bytes(28) + b"".join(struct.pack(">i", round(v * 65536)) for v in (0.9642, 1.0, 0.8249)) + bytes(48)
    return head + table + body
