"""Print what each network costs: ``python -m facenet_ext.models`` needs torch alone."""

from facenet_ext.models.summary import as_text, summarise

if __name__ == "__main__":
    print(as_text(summarise()))
