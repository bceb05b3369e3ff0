import unittest

from slugify import slugify


class SlugifyTest(unittest.TestCase):
    def test_words_are_joined_in_lower_case(self):
        self.assertEqual(slugify("Hello, World!"), "hello-world")

    def test_accents_are_folded(self):
        self.assertEqual(slugify("Crème brûlée"), "creme-brulee")

    def test_the_separator_can_be_chosen(self):
        self.assertEqual(slugify("one two", separator="_"), "one_two")

    def test_nothing_usable_gives_an_empty_slug(self):
        self.assertEqual(slugify(" !? "), "")

    def test_a_shortened_slug_does_not_end_with_the_separator(self):
        self.assertEqual(slugify("one two three", max_length=8), "one-two")


if __name__ == "__main__":
    unittest.main()
