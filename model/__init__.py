"""The models themselves: made, exported, inspected and served."""
