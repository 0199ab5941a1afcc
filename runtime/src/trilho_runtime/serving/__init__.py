"""The data plane of one server: rows are read, grouped, predicted, decided and logged here."""
