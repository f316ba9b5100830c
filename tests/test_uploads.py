"""Every kind of file a person may upload, and what is said of bad ones."""

import pytest

from lab import files


# ── files ──
def test_every_kind_of_file_is_read(tmp_path):
    from docx import Document

    (tmp_path / "a.txt").write_text("plain ü", encoding="utf-8")
    (tmp_path / "b.md").write_text("# marked", encoding="utf-8")
    (tmp_path / "c.html").write_text("<script>no()</script><p>shown &amp; kept</p>")
    document = Document()
    document.add_paragraph("from Word")
    table = document.add_table(rows=2, cols=2)
    for cell, words in zip([*table.rows[0].cells, *table.rows[1].cells], ("who", "room", "Nora", "330"), strict=True):
        cell.text = words
    document.add_paragraph("and after")
    document.save(str(tmp_path / "d.docx"))
    (tmp_path / "e.pdf").write_bytes(one_page_pdf("from a page"))
    read = [files.read_text(path) for path in sorted(tmp_path.iterdir())]
    assert read == [
        "plain ü",
        "# marked",
        "shown & kept",
        "from Word\nwho | room\nNora | 330\nand after",
        "from a page",
    ]


def one_page_pdf(words: str) -> bytes:
    stream = f"BT /F1 12 Tf 72 720 Td ({words}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R "
        b"/Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
    ]
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    start = len(out)
    return out + b"xref\n0 5\n0000000000 65535 f \n%strailer << /Size 5 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (
        table,
        start,
    )


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.exe", b"MZ", "upload one of"),
        ("x.txt", b"\xff\xfe\x00\x01", "not UTF-8"),
        ("x.txt", b" \n ", "no text; give some"),
        ("x.pdf", one_page_pdf(""), "no text; a scanned PDF"),
        ("x.pdf", b"not a pdf", "damaged"),
        ("x.docx", b"not a zip", "damaged"),
    ],
)
def test_a_bad_file_is_refused_with_its_name(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=said) as error:
        files.read_text(path)
    assert str(tmp_path) not in str(error.value)
