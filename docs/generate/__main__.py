"""python -m docs.generate: writes the generated parts of all documents."""

from docs.generate.parts import PAGES, filled

if __name__ == "__main__":
    for page in PAGES:
        text = page.read_text()
        if (new := filled(text)) != text:
            page.write_text(new)
            print(f"written: {page}")
