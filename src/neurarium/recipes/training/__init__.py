"""What bends a run: orders of data, noise, nowcasts."""
