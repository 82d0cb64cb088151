"""Why a risk is what it is: the similar patients behind it, the columns that raised or lowered it, and a patient's sheet."""
