"""Text classification: data, tokenizer, the recurrent network, its evaluation."""
