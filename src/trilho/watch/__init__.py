"""What is served is measured here: drift, performance, the alarms they raise, and the incidents those belong to."""
