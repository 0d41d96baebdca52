"""What a student of two layers learns from a teacher of six where few rows are labelled: TREC, MiniLM-L6.

The teacher is MiniLM-L6, fine-tuned on all training rows for 3 epochs with seed 0. The student starts from the first
and the last layer of MiniLM-L6 as it was pretrained, and has 64 questions of each class and 10 epochs. Each seed draws
its questions, and learns them by their labels alone, with the teacher's answers beside them, and with its hidden states
too.

Data       5,381 distinct questions in 6 classes (Li and Roth 2002), of which 500 are held out, stratified.
Published  none for this student; 0.938 for six layers on all rows: a plain PyTorch loop on the same split.
Expected   accuracy 0.698 by the labels alone, 0.713 with the answers (0.015 more, 95% 0.009 to 0.022), 0.698 with the
           hidden states too, which bring nothing in 120 updates; the teacher 0.948.
Cost       about 10 minutes on two CPU cores, 3 of them for the teacher.
Command    python experiments/distillation.py --seeds 0 1 2 3 4
"""

from dataclasses import replace

from transformers import AutoTokenizer

import bertjax

TEACHER = bertjax.FineTuneConfig(model="minilm-l6", data=bertjax.Table("trec"), epochs=3)
CONFIG = replace(TEACHER, data=bertjax.Table("trec", per_class=64), epochs=10)
PUBLISHED = bertjax.PublishedScore("PyTorch, six layers, all rows", {"test/accuracy": 0.938})


def main(flags: bertjax.ExperimentFlags) -> int:
    """Fine-tunes the teacher, makes a student, and trains it in three ways over the seeds."""
    out = flags.folder("distillation")
    config = flags.settings(TEACHER)
    teacher = bertjax.finetune(config, out / "teacher", if_exists=flags.if_exists)
    print(f"accuracy of the teacher: {teacher.metrics['test/accuracy']:.4f}")

    whole, params = bertjax.from_pretrained(config.model)
    depth = whole.config.num_layers
    model, params = bertjax.keep_layers(whole, params, sorted({0, depth - 1}))
    tokenizer = AutoTokenizer.from_pretrained(teacher.model_dir)
    student = bertjax.save_pretrained(out / "student", model, params, tokenizer)

    layers = model.config.num_layers
    alike = tuple(f"{layer}:{layer * depth // layers}" for layer in range(1, layers + 1))  # 1:3 2:6
    answers = bertjax.Distillation(str(teacher.model_dir))
    ways = {
        "labels": bertjax.Distillation(),
        "answers": answers,
        "hidden_states": replace(answers, teacher_layers=alike),
    }
    status = 0
    for name, distillation in ways.items():
        settings = replace(CONFIG, distillation=distillation)
        status |= bertjax.run_seeds(name, settings, PUBLISHED, replace(flags, model=str(student)), out / name)
    return status


if __name__ == "__main__":
    bertjax.run_script("distillation", main)
