# SPDX-License-Identifier: Apache-2.0
import pytest
import yaml
from huggingface_hub import ModelCard

from eigenhub.hub.cards import CardError, card_problems, render_card, write_card
from eigenhub.hub.resources import find


GOOD = "---\nlibrary_name: peft\ntags: [a]\n---\n# Card\n"


def test_a_methods_card_carries_the_figures_of_its_results_file(toy):
    card = render_card("toy")
    assert card.data.model_name == "toy"
    assert [r.metric_value for r in card.data.eval_results] == [0.75]
    assert "0.875" in card.content


def test_a_folders_card_carries_its_own_settings_and_no_foreign_figures(saved_toy):
    card = ModelCard.load(write_card(saved_toy))
    assert card.data.eval_results is None
    assert card.data.base_model == "org/base"
    assert "# my-toy" in card.text
    assert "AutoPeftModelForCausalLM of rank 3" in card.text


def test_a_folders_own_results_go_to_both_forms_of_the_hub(saved_toy, results_text):
    (saved_toy / "results.yaml").write_text(results_text.replace("0.75", "0.625"))
    card = ModelCard.load(write_card(saved_toy, repo_id="me/toy"))
    assert card.data.model_name == "me/toy"
    assert [r.metric_value for r in card.data.eval_results] == [0.625]
    (entry,) = yaml.safe_load((saved_toy / ".eval_results" / "digits.yaml").read_text())
    assert entry["value"] == 0.625


def test_a_local_base_model_does_not_reach_the_card(saved_toy, tmp_path):
    config = saved_toy / "adapter_config.json"
    config.write_text(config.read_text().replace("org/base", str(tmp_path)))
    text = write_card(saved_toy).read_text()
    assert "base_model" not in text
    assert str(tmp_path) not in text
    assert ModelCard.load(write_card(saved_toy, base_model="org/other")).data.base_model == "org/other"


def test_only_a_readme_that_somebody_wrote_is_protected(saved_toy):
    path = saved_toy / "README.md"
    path.write_text("# blank\n[More Information Needed]")
    write_card(saved_toy)
    write_card(saved_toy)  # its own card
    path.write_text("# mine")
    with pytest.raises(FileExistsError, match="--overwrite"):
        write_card(saved_toy)
    assert path.read_text() == "# mine"
    write_card(saved_toy, overwrite=True)
    assert "rank 3" in path.read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda text: text.replace("{{ repo_id }}", "{{ nobody_gives }}"),
            "card template: 'nobody_gives' is undefined",
        ),
        (lambda text: text + "\n{% if %}", "card template"),
        (lambda text: text.replace("tags: [toy]\n", ""), "front matter lacks `tags`"),
        (lambda text: text + "\n[More Information Needed]", "is left in the text"),
    ],
)
def test_a_bad_template_is_refused(toy, change, message):
    path = find(toy.card)
    path.write_text(change(path.read_text()))
    with pytest.raises(CardError, match=message):
        render_card(toy)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("---\ntags: [\n---\n", "front matter cannot be read"),
        (GOOD.replace("library_name: peft\n", ""), "front matter lacks `library_name`"),
        (GOOD + "```python\nx = (\n```\n", "does not compile"),
    ],
)
def test_problems_are_found_without_the_network(text, problem):
    assert card_problems(GOOD) == []
    (found,) = card_problems(text)
    assert problem in found


def license_template(toy):
    """The made-up template, with a licence."""
    path = find(toy.card)
    path.write_text(path.read_text().replace("library_name: peft\n", "library_name: peft\nlicense: apache-2.0\n"))


def test_a_licence_that_was_stated_stays(saved_toy, toy):
    license_template(toy)
    assert ModelCard.load(write_card(saved_toy)).data.license == "apache-2.0"
    assert ModelCard.load(write_card(saved_toy, license="mit")).data.license == "mit"
    assert ModelCard.load(write_card(saved_toy, overwrite=True)).data.license == "mit"
    path = write_card(saved_toy, license="cc0-1.0")
    assert ModelCard.load(path).data.license == "cc0-1.0"
    other = "---\nlicense: other\nlicense_name: house\nlicense_link: LICENSE\n---\n# mine\n"
    path.write_text(other)
    data = ModelCard.load(write_card(saved_toy, overwrite=True)).data
    assert (data.license, data.license_name, data.license_link) == ("other", "house", "LICENSE")


def test_the_licence_of_another_base_model_does_not_stay(saved_toy, toy):
    license_template(toy)
    write_card(saved_toy, license="mit")
    assert ModelCard.load(write_card(saved_toy, base_model="org/other")).data.license == "apache-2.0"


def test_a_broken_readme_can_be_replaced(saved_toy):
    (saved_toy / "README.md").write_text("---\ntags: [\n---\n")
    assert "rank 3" in write_card(saved_toy, overwrite=True).read_text()
