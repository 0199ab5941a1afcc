"""What the page of a comparison says, in English and in Brazilian Portuguese."""

from __future__ import annotations

from trilho.watch.wording import Language

ENGLISH = {
    "title": "Comparison of two tables",
    "none": "No column has drifted",
    "one": "1 column has drifted",
    "some": "{count} columns have drifted",
    "verdict.none": "None of the {columns} columns of {after} differs from {before} by more than chance and the "
    "floor allow.",
    "verdict.some": "Of {columns} columns, {count} differ between {before} and {after} by more than chance explains "
    "and by no "
    "less than the floor of {floor}: {names}.",
    "and_more": "{names} and {count} more",
    "rows": "Rows",
    "rows.value": "{before} against {after}",
    "columns": "Columns compared",
    "rate": "False alarms allowed",
    "rate.value": "{rate} of the flagged columns, on average",
    "floor": "Smallest distance that counts",
    "test": "Test",
    "test.strict": "strict: over the floor",
    "test.usual": "a difference, then its size",
    "forest": "How far each column moved",
    "forest.lead": "The distance is the largest change in the share of any set of values: 0 is no change, 0.05 "
    "means that up "
    "to five of a hundred rows have moved elsewhere. The line is a 95% interval.",
    "forest.words": "The distances of {count} columns with their intervals; the floor is {floor}.",
    "floor.label": "floor {floor}",
    "figures": "What changed",
    "figure.words": "Shares of the values of {column} in both tables; {moved}",
    "moved": "{bin}: {before} before, {after} now",
    "before": "before: {table}",
    "after": "now: {table}",
    "all": "All columns",
    "more": "The {shown} furthest of {columns} columns are drawn; the table below has all of them.",
    "column": "Column",
    "kind": "Kind",
    "distance": "Distance",
    "interval.head": "95% interval",
    "q": "Lowest rate",
    "largest": "Largest change",
    "interval": "{low} to {high}",
    "tiny": "<0.0001",
    "drifted": "drifted",
    "steady": "steady",
    "skipped": "Not compared",
    "how": "How this was decided",
    "how.1": "Both tables are counted in the same bins, chosen from both together, so that neither is taken for the "
    "truth.",
    "how.2": "A column is flagged when two things hold. Its difference is larger than dealing out the same rows by "
    "chance would "
    "give, where over all columns at most {rate} of the flagged ones are expected to be flagged for nothing "
    "(Benjamini and Hochberg). And its distance, measured on rows that did not choose what to look at, is at least "
    "{floor}: with "
    "many rows even a difference of no consequence is certain.",
    "how.2.strict": "A column is flagged when its distance is shown to be larger than {floor}, tested on rows that "
    "did not choose "
    "what to look at; over all columns at most {rate} of the flagged ones are expected to be flagged for nothing "
    "(Benjamini and Hochberg).",
    "how.3": "Rows count as independent of each other. Where many rows come from one customer or device, "
    "differences look surer "
    "than they are: compare a table of customers instead.",
    "how.4": "The lowest rate is the smallest share of false flags at which the column would still be flagged.",
    "made": "Made by trilho on {date} in {seconds} s.",
    "kind.number": "number",
    "kind.category": "category",
    "kind.boolean": "yes or no",
    "kind.timestamp": "time",
    "kind.text": "text",
}
PORTUGUESE = {
    "title": "Comparação de duas tabelas",
    "none": "Nenhuma coluna mudou",
    "one": "1 coluna mudou",
    "some": "{count} colunas mudaram",
    "verdict.none": "Nenhuma das {columns} colunas de {after} difere de {before} além do que o acaso e o piso "
    "permitem.",
    "verdict.some": "De {columns} colunas, {count} diferem entre {before} e {after} mais do que o acaso explica e "
    "não menos que o "
    "piso de {floor}: {names}.",
    "and_more": "{names} e mais {count}",
    "rows": "Linhas",
    "rows.value": "{before} contra {after}",
    "columns": "Colunas comparadas",
    "rate": "Alarmes falsos permitidos",
    "rate.value": "{rate} das colunas apontadas, em média",
    "floor": "Menor distância que conta",
    "test": "Teste",
    "test.strict": "estrito: acima do piso",
    "test.usual": "uma diferença, depois o tamanho",
    "forest": "Quanto cada coluna mudou",
    "forest.lead": "A distância é a maior mudança na participação de um conjunto de valores: 0 é nenhuma mudança, "
    "0,05 significa "
    "que até cinco em cada cem linhas foram para outro lugar. A linha é um intervalo de 95%.",
    "forest.words": "As distâncias de {count} colunas com os seus intervalos; o piso é {floor}.",
    "floor.label": "piso {floor}",
    "figures": "O que mudou",
    "figure.words": "Participação dos valores de {column} nas duas tabelas; {moved}",
    "moved": "{bin}: {before} antes, {after} agora",
    "before": "antes: {table}",
    "after": "agora: {table}",
    "all": "Todas as colunas",
    "more": "São desenhadas as {shown} que mais mudaram de {columns} colunas; a tabela abaixo tem todas.",
    "column": "Coluna",
    "kind": "Tipo",
    "distance": "Distância",
    "interval.head": "Intervalo de 95%",
    "q": "Menor taxa",
    "largest": "Maior mudança",
    "interval": "{low} a {high}",
    "tiny": "<0,0001",
    "drifted": "mudou",
    "steady": "estável",
    "skipped": "Não comparadas",
    "how": "Como isto foi decidido",
    "how.1": "As duas tabelas são contadas nas mesmas faixas, escolhidas das duas juntas: nenhuma delas é tomada "
    "como a verdade.",
    "how.2": "Uma coluna é apontada quando duas coisas valem. A sua diferença é maior do que daria distribuir as "
    "mesmas linhas ao "
    "acaso, e entre todas as colunas espera-se que no máximo {rate} das apontadas o sejam sem motivo "
    "(Benjamini e Hochberg). E a sua distância, medida em linhas que não escolheram o que olhar, é de pelo menos "
    "{floor}: com "
    "muitas linhas até uma diferença sem importância é certa.",
    "how.2.strict": "Uma coluna é apontada quando se mostra que a sua distância passa de {floor}, testada em linhas "
    "que não "
    "escolheram o que olhar; entre todas as colunas espera-se que no máximo {rate} das apontadas o sejam sem motivo "
    "(Benjamini e Hochberg).",
    "how.3": "As linhas contam como independentes. Onde muitas linhas vêm de um só cliente ou aparelho, as "
    "diferenças parecem "
    "mais certas do que são: compare uma tabela de clientes.",
    "how.4": "A menor taxa é a menor proporção de apontamentos falsos com que a coluna ainda seria apontada.",
    "made": "Feito por trilho em {date}, em {seconds} s.",
    "kind.number": "número",
    "kind.category": "categoria",
    "kind.boolean": "sim ou não",
    "kind.timestamp": "tempo",
    "kind.text": "texto",
}
WORDS: dict[Language, dict[str, str]] = {"en": ENGLISH, "pt-BR": PORTUGUESE}
Rules = list[tuple[str, str]]
BINS: dict[Language, Rules] = {
    "en": [],
    "pt-BR": [
        (r"to (\S+)", r"até \1"),
        (r"(\S+) to (\S+)", r"\1 a \2"),
        (r"above (\S+)", r"acima de \1"),
        (r"all values", "todos os valores"),
        (r"([\d,]+) rarer values", r"\1 valores mais raros"),
        (r"null", "nulo"),
        (r"infinite", "infinito"),
        (r"nan", "não é número"),
        (r"true", "sim"),
        (r"false", "não"),
        (r"Monday", "segunda"),
        (r"Tuesday", "terça"),
        (r"Wednesday", "quarta"),
        (r"Thursday", "quinta"),
        (r"Friday", "sexta"),
        (r"Saturday", "sábado"),
        (r"Sunday", "domingo"),
    ],
}
REASONS: dict[Language, Rules] = {
    "en": [],
    "pt-BR": [
        (r"ignored", "ignorada"),
        (r"not in the second table", "não está na segunda tabela"),
        (r"only in the second table", "só está na segunda tabela"),
        (r"nearly every value is new", "quase todo valor é novo"),
        (r"it numbers the rows", "numera as linhas"),
        (r"(\d+) values", r"\1 valores"),
        (r"a (.+) is not compared", r"o tipo \1 não é comparado"),
        (r"(\S+) in the first table, (\S+) in the second", r"\1 na primeira tabela, \2 na segunda"),
        (
            r"a time moves by itself; its hours are compared over (\d+) days or more, its weekdays over (\d+), and "
            r"a table "
            r"here covers (\d+)",
            r"o tempo anda por si; as horas são comparadas a partir de \1 dias, os dias da semana a partir de \2, e "
            r"uma "
            r"tabela aqui cobre \3",
        ),
    ],
}
