"""The operations that everything else is made of, each with a reference in plain torch and faster variants."""
