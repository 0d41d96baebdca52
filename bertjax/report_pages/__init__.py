"""The HTML pages of reports: one base template with the style sheet, and one template a page that extends it."""
