"""Text classification, offline: data, tokenizer, the recurrent network, its evaluation."""
