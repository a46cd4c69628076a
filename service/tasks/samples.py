"""Real inputs to try models with: small ones for the examples of the OpenAPI page, and those of golden files."""

import io
from collections.abc import Mapping
from typing import Any

from PIL import Image

from service.tasks.base import Sample

# Larger images are sent as JPEG of a quality that shows no artefacts; PNG would be ten times as large.
_LARGE_PIXELS = 128 * 128
_QUALITY = 92


def image_samples(inputs: Mapping[str, Any], manifest: Any, companion: Any) -> list[Sample]:  # noqa: ARG001
    """The images of a golden file, uint8 of shape (images, height, width, channels)."""
    (images,) = (inputs[spec.name] for spec in manifest.inputs)
    return [_encode(Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)) for pixels in images]


def _encode(image: Image.Image) -> Sample:
    buffer = io.BytesIO()
    if image.width * image.height > _LARGE_PIXELS:
        image.save(buffer, "JPEG", quality=_QUALITY)
        return Sample("image/jpeg", buffer.getvalue())
    image.save(buffer, "PNG")
    return Sample("image/png", buffer.getvalue())


# A cat of the CIFAR-10 test split (Krizhevsky 2009; research use), 32x32, JPEG of quality 75, in base64.
CAT = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAgGBgcGBQgHBwcJCQgKDBQNDAsLDBkSEw8UHRofHh0aHBwgJC4nICIsIxwcKDcpLDAxNDQ0Hyc5"
    "PTgyPC4zNDL/2wBDAQkJCQwLDBgNDRgyIRwhMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjL/wAAR"
    "CAAgACADASIAAhEBAxEB/8QAHwAAAQUBAQEBAQEAAAAAAAAAAAECAwQFBgcICQoL/8QAtRAAAgEDAwIEAwUFBAQAAAF9AQIDAAQRBRIhMUEG"
    "E1FhByJxFDKBkaEII0KxwRVS0fAkM2JyggkKFhcYGRolJicoKSo0NTY3ODk6Q0RFRkdISUpTVFVWV1hZWmNkZWZnaGlqc3R1dnd4eXqDhIWG"
    "h4iJipKTlJWWl5iZmqKjpKWmp6ipqrKztLW2t7i5usLDxMXGx8jJytLT1NXW19jZ2uHi4+Tl5ufo6erx8vP09fb3+Pn6/8QAHwEAAwEBAQEB"
    "AQEBAQAAAAAAAAECAwQFBgcICQoL/8QAtREAAgECBAQDBAcFBAQAAQJ3AAECAxEEBSExBhJBUQdhcRMiMoEIFEKRobHBCSMzUvAVYnLRChYk"
    "NOEl8RcYGRomJygpKjU2Nzg5OkNERUZHSElKU1RVVldYWVpjZGVmZ2hpanN0dXZ3eHl6goOEhYaHiImKkpOUlZaXmJmaoqOkpaanqKmqsrO0"
    "tba3uLm6wsPExcbHyMnK0tPU1dbX2Nna4uPk5ebn6Onq8vP09fb3+Pn6/9oADAMBAAIRAxEAPwDwSe3mtpjFNG0bj+FhirOmaZNqd0IYRx1Z"
    "uyiu58TWtg1kIyrS6jMQsajoD61s+H9FEGkQ+UsQYOBJngkd/wAaSYHnGuaZHpTwRozMWUls1kZr2PxT4Z0nUoVVZ1ju0XKsvJx7ivONV03T"
    "NMRoEnkmux15AC0wPS7K2hu7ppHVWcD5Se30q61rJbRlV2NHu3YYnGfcVyiak8NnLPFKFcAAA96st4niNgAiv9o24OemamzuO9ir4l8UXMO6"
    "0hVfOxjeqgBRXnzwTyOXc5Zjkknk10M26aRpJDuc9SarlAc/zqibn//Z"
)

# A blood smear of the BCCD test split (Shenggan/BCCD_Dataset, MIT licence), shrunk to 256x192, JPEG, in base64.
SMEAR = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA4KCw0LCQ4NDA0QDw4RFiQXFhQUFiwgIRokNC43NjMuMjI6QVNGOj1OPjIySGJJTlZYXV5dOEVm"
    "bWVabFNbXVn/2wBDAQ8QEBYTFioXFypZOzI7WVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVlZWVn/wAAR"
    "CADAAQADASIAAhEBAxEB/8QAGgAAAgMBAQAAAAAAAAAAAAAAAQIAAwQFBv/EACoQAAICAQQCAgICAgMBAAAAAAABAhEDBBIhMUFRIjITYRRx"
    "BYEjM1Kh/8QAGAEAAwEBAAAAAAAAAAAAAAAAAAECAwT/xAAhEQEBAQEAAgIDAQEBAAAAAAAAARECITEDEkFRcSJhBP/aAAwDAQACEQMRAD8A"
    "9CMmxRhJBgS5HRKChEBhIPACCyB8ACDeCUSX1AKpZXfHRWsrb56Kp7m6Q8I3NJGuTC1ZKHG6PRTN+Dco7VSMmrhsyJryjCtebrO2I+Rmm2K0"
    "0+RNYsiltK5dh3cCtiNLOxje7Twl+jjo6+BNaXGma7/ln8hiEIJkNABYyEACQgEFESBkmscN3nwZHPJPtgqc62qSTrcirVYoSxOUnVFEYuLL"
    "lJNVJXH0F530rMc6cdpW2df8GKUd23sX+Lh/8k/1f3V48nNMuox3Re8+3F18i6zvJ55I4+O2VfyXfBklNt2wJsFzhvhnUu0WqpLg5ybQ8Mzg"
    "+wTeG6uQlK1eNrlcjLUYqvkeVP1o5Mkca579CrUQfa4MmTJvk2JuF4ntc4ack8fLQdNlxRk93ZibBY/Ho58cdhZIN/ZGLU5PyTbXSMikw7mT"
    "ZPwc5xZB88kyxvlCqwqXhk5+lKqoBZJxZIx3OkOSno4YXK2dZNPHCukjFh0sm1u4RrfFRXSK8Yx7umIREBmFBQSCAEoj3Kttd82G+QNk1Ury"
    "JeEUb34DqG5Zpf2U5ZbIhG09L1lYyyowYsjlKjQytJv081K42W1RzsU3GSaNzzwULl2OxF5ZIpSkl7H1ShiUY3zRX07RmztufLI9rkHcmw7q"
    "RShr4E0w7yvoRybd+BRlzGqC/wDBgxdsujFvgognuNaVUO3U1nmnBip8mrLBZIWu0Zoxe6hbvs4EhRpCkmlhQEMhhZAKxuXgkHRbPOoY6XbN"
    "eOLfSOrip464k6NmPS44RUrs5eeTly27ss0+pliVSlcTpvwX6+KjbXUy52uIoWOf3Ezxn+SO675FlP0cuZ4sP6tyzQffA9buYuzlu/ZbhzSh"
    "Jc8DyfgXhu/ogIKLi5QSV9hJZiBLkgRUMWSN5X/ZXl00pxtcl+ojte72TFk8MJPHhesmHTyx8uJbOJ0E6ju8IxZJb5N/snD5qhPayZJtyQMn"
    "DIluK1RHNiSdi7iInV4iCwB7D2Aq0PBUgJFnDQBIr5cDqdibAqDb4HImr8VymkjX/Hx9Vz5F02JY47n9n0WjslZXry5mqwvHkS8Mq2cHS1kV"
    "PEpeYnOk30Kc2teb4LVESbfBZHFb5L9i21wv2ac8C9MWbdCFmd5Xtp8uzo6zHuwqukcuUtuSju+DzzjLq2rX8uwyrZQrlStFOdySTNpPOJ9N"
    "+kmvxODfN2aYxs4sMsk014Orpsu+FvhnH/6Piz/Ua82WLZKhU0Cc7K9xySrdDT5FFU+maK9HKjNp9nTx28UG/JV/bLqYYhACQkoqUaZllhcJ"
    "X2jWQX8OVinkdbb4K2y/U4knujxYmLFvSVqxbrSVTsc2aJY1iwK/szQsaxL2ynVyTjHnkRbrlUFDRW5pFmTFsE11VZfp8Tyz2lUUrOho1Scl"
    "/RUT1SZNFx8ZWyhYJRdM6LaXLZknkcpv0ElROqfFp90blKkXwx44dK2TEv8AhV+Q0NFprshCDJTlU3J9bfBRLGn4pmufCRU0m7Q+VSqU2o3L"
    "wzBqM0sk3tdG3WOSwSaRyoN7v2dvwyXyOqujnl+Jwb4KcuO0pIeaUY/thgnJbfBt/wBSWEXKHJMkbjT8FuylSZrx6eOTArJ77nM08cxRjFVX"
    "LL9NNuW2jbHSQi+efRpxaTG8bpUzn+T5pZ6EtjBJ2BK2XTwtSYn1OP8AjeXUjH5HQ0+ZSWx+OjnOTsswyp2XL+09TXTapkEwyeTFb8FiXbfS"
    "F6Y/kKFeXHHzf9GHUamU8jSdRRWphjScL8+dTlwqSKVJ3diqp5oxbpPyLkW3K4q6/ZPpeNmHO62ylx+yqUlKTt2Z6GjG+h3KMkVxdSRfL5xV"
    "mfa06N+jxJx3y8dE54HVxl/DkTva6LITlDptHQ3WLKEJdxRUuM/uxSnKXbLMGJzkr+poWLGuojrhUuEVulehddLoASISUCgBAFmriJSLuyqh"
    "w4zapN4J8HJbe2Lo7zhuTvo5WpjLHcEuPB1fB1J4CjjLS8mrHjjLDKmriYoXGXJs0+KU5V1H2dHckm6IDxN49yZt0saxRUvPIywQSS7odeV1"
    "XRzdfJ9piliUdvAI344Fx8d9Dr/4c98I6VShcWYZqpUdKXr2YdQqmZ1p8aoMfXlilmCLnnhFd2PlpfTp4oPHhSb7F1ORYdM5Pt8IulfCa6MH"
    "+Slc4414QWseZtc+2237DZGqALddA99jr9uysfFTyVL0Im7TxxSrcrHyRxY4SpfLwYsbcZNX0NKTl27DIjPIQg8kl5bOhtUIRivBn0SqTf6N"
    "RSOqCCQnkbNAkIrrkQQgPIyAAwogUrDQhXOPy4H3wT5lyG4vyMwikuCiUYynyky/bRW4O7oqHFEtNjnK3FF0YxiqiqSDTT6YyjL0Vplr0gOP"
    "gujDgZRSJ0tVwx0uR6Q1ckJvklOZKMd/o5eSTlNtnXyNbGn0zDnwpR3LolpzcZUm+jboMLWVzfSRVhca45Zvxrbj/srLz4Pro7dyOd/kLWpT"
    "fTRvKtXg/Pj4+y6JvhHNyuW+RGqY+2UZNSVNBasmt9V0Ha01KPaGjBtmqGJbafY5vuFazXcrqhkjUtHJq7SDHTST5oKX2htNHamy4nEUorpB"
    "Ssqsb5REUWU5tVHH8Ycy9mV6jLJ/Ycn7Oc10aZDDDUZYv7Wv2bceSOZfHiXoM/RXnE8hIECQzZckpuk6iaJ8Y5MwuYL5ixJex00vJn3BUhb+"
    "14345blQ5hx5XGS5Og1dNdMefln1MLQQogkgQJAAAXIasp1GeOKDincmByaTLlTnS6RNRtejpdsxqf7LFLcqscXeR0mCqZuYmnVY37HoLbWY"
    "BuiEAKsuHHm+yp+0Ysmmlil7T6Zvk1FW2VyyKaSRP1Xzapx4G1dUjRDGoftjRmpJLygjzE20CEd+CDIiXJVqs6xRUF9mXJcowf5BNaiL/Qvy"
    "rmbVC9+RkhUWRSbV3tvmu6FrZF+yyDcGpRBJRbey9t8X3QYr4lc0r5dH7RjJeSFelleKUX46LW1GLk+kOsc8pKN4Zp+jlG1TlkvwvRjlxJom"
    "teIA66FRbhWF5G9TKUYJWtvkU8rCC+Vm3FqIpbZdGBNNvbaj4stgvI5Z+U2a6KlCX1Yyja4OfvroizST4Y8R9G9xZFG/KMmTLNRVvszyyyXT"
    "YeBOGnU6lR+GPv2c6dydt8jNik2/ppzzgBwtxl8nYALsJVWOpgnbRc+zDpsq3pG6fZVc/UygLOSgr8h5tGbUv50IuZoTlu7EqhFKiORXprh4"
    "SpmqEt0f6MSfJo07+Vex+09RcyIJCWRWZ9bhllUZR7XgvsKdCsOXHJaadNUxoPk6OTDDL9lTM8tI4O07RP8AWs6lUSkRSdEyR2yoUcq2zR5Y"
    "qTU+mWZ5fklth9UYYui7TZXCavlWae/MTefy1xx7Yrnko1WC6nE2zSkt0emLVRbZnf2iXHLSdj7bibY4YZJcos/jRqkwX93Pii3qA2TBKEnx"
    "wRLgWHqkbGk5K+gTVDYumH4CarKpZah0uDPIMl82Bhv6VCsCIyIRoLzu/Q8Y2PHFKbqKHBaOlW7PFHUl2VabTrAtz+zLH2Xuufq6hl1Uanfs"
    "1C5IfkjXnwTSlxznY0YOXSL44an8lwWTq9seENp9mVwov0qTkJlglG7KYzljlcSubvg75jovsBVi1KnxNU/Zc1X9BZjGzFYUAJJCFdihvbFy"
    "9IDjFq0vztR6KUh5u5cptyYkotxaToTeI0SIY8RSu/2FLngJcNt0udKLhLoeeRPhdGPFFuaryb44qdyKuM7kNhjUW35HRH0ESEsR44PxQwQw"
    "aqenhNctozy088fK5Rt4XboG+PsWHLXLyQfdFR2XCGThpMx6rTvqFX6RLSdsDIX/AMfJt5iJHDOUqoIr7QcMXJ9HSx41ih18n2LgwrFG32O3"
    "b5Kxl11qXYrYRGVEDZI2xb5HiIjGPUXDK17Nhl1y5hIJ7Xz7UNuRNthhTRZGFhWmszW1m3S5N6cH/ozZlRNPJxzQorm7MF8xrikkEBOxMDAy"
    "f9TCBrdFoRz2xVtk5J/6Elz0XSjToRxFmtpVdMaMRkrZfiwOclfEUAtW6PHV5GuPBo7YOKpdII2VuiggQQCC5Mkca55l6HXFv0rOfOTnkbfs"
    "D5mnlNz7A50hoQsXU4nCKfhi1fhTLLJvh0izDNxkpdso7Hja6Hp2OjHKpLjgHXhGaM6VsdaqG3mNsMR9atYGU/y4t8qiyOSE1wx5S+tgsVjN"
    "UK7p12JIJDokV8VffkZIAPgqzw/Lia8rlFgLAS45iuJZHJTu/wDRpy4Iz5jxIzvFKPcA1rLKTJLex9Pibyxfpgl8FdCLPOLtOhynmv/Z"
)

# A seven of the MNIST test split (LeCun et al.; CC BY-SA 3.0), 28x28, PNG, in base64.
SEVEN = (
    "iVBORw0KGgoAAAANSUhEUgAAABwAAAAcCAAAAABXZoBIAAAAuUlEQVR4nGNgGKKg+8Wq+WFiOCS7/vz58+drAHbJ1Md//vz5+yEIu6zRgjd//v75"
    "0IzDZGHvKX/+nOLG6axFf/92wtgsaHL8lv8Z3uDS2PXnzx9c3on/++fPBrhpTKiSngwMDB/+YNc4++//v2dFcZh6/s/fP64ILoqxwrwMDPfO4dBY"
    "8OfPV38cctrf/vzZhEOOedXfv/twyDFI/PnzpxOP5GMDXJL8t/8sQBVB8spHzzVncGkkFQAA0S1JkudzdFAAAAAASUVORK5CYII="
)
