"""Judge what fine-tuning broke, from the tuned model's clips beside the base model's."""
