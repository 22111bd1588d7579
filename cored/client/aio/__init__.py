"""What is in cored.client.api, awaited."""
