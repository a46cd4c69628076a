"""python -m docs.generate: writes the generated parts of all documents, and the course's pages of the served page."""

from docs.generate import learn
from docs.generate.parts import PAGES, filled

if __name__ == "__main__":
    for page in PAGES:
        text = page.read_text()
        if (new := filled(text)) != text:
            page.write_text(new)
            print(f"written: {page}")
    for path in learn.write():
        print(f"{'written' if path.exists() else 'removed'}: {path}")
