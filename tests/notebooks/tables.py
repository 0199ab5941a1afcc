"""The notebooks' data: made up, small, the same on every machine, with the dirt that real tables have."""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path

Row = Sequence[object]
FIRST = ["Ana", "Bruno", "Carla", "Diego", "Elisa", "Fábio", "Gabriela", "Hugo", "Inês", "João", "Karina", "Luís"]
LAST = ["Silva", "Souza", "Costa", "Pereira", "Almeida", "Ferreira", "Rocha", "Martins", "Araújo", "Gonçalves"]


def write_table(folder: Path, name: str) -> list[Path]:
    """Write a table of the corpus into a folder, with those that belong to it."""
    folder.mkdir(parents=True, exist_ok=True)
    return MAKERS[name](folder, random.Random(f"trilho {name}"))


def passengers(folder: Path, rng: random.Random) -> list[Path]:
    rows: list[Row] = []
    for i in range(1, 1001):
        sex = rng.choice(["male", "male", "female"])
        title = (
            rng.choice(["Miss", "Mrs", "Mlle"]) if sex == "female" else rng.choice(["Mr", "Mr", "Mr", "Master", "Dr"])
        )
        pclass = rng.choice([1, 2, 3, 3])
        age = max(1, rng.gauss(8 if title == "Master" else 34 - 3 * pclass, 4 if title == "Master" else 12))
        fare = round(math.exp(rng.gauss(4.5 - 0.8 * pclass, 0.4)), 2)
        sibsp, parch = rng.choice([0, 0, 0, 1, 1, 2]), rng.choice([0, 0, 0, 1, 2])
        chance = _logistic(2.6 * (sex == "female") + 1.4 * (title == "Master") - 0.9 * pclass - 0.015 * age + 0.9)
        name = f"{rng.choice(LAST)}, {title}. {rng.choice(FIRST)}"
        rows.append([i, int(rng.random() < chance), pclass, name, sex, _or(rng, 0.18, round(age)), sibsp, parch,
                     f"T{rng.randrange(10**5):05d}", _or(rng, 0.01, fare), _or(rng, 0.7, f"C{rng.randrange(99)}"),
                     _or(rng, 0.01, rng.choice("SSSCQ"))])  # fmt: skip
    return [_csv(folder / "passengers.csv", "PassengerId,Survived,Pclass,Name,Sex,Age,SibSp,Parch,Ticket,Fare,Cabin,"
                 "Embarked", rows)]  # fmt: skip


def customers(folder: Path, rng: random.Random) -> list[Path]:
    rows: list[Row] = []
    for i in range(2400):
        first, last = rng.choice(FIRST), rng.choice(LAST)
        tenure, calls, fee = rng.randrange(1, 72), _count(rng, 1.4), round(rng.uniform(29, 180), 2)
        plan = rng.choice(["basic", "plus", "family", "pro"])
        payment = rng.choice(["card", "boleto", "pix", " boleto"])
        score = -1.6 - 0.03 * tenure + 0.55 * calls + 0.008 * fee + 0.5 * (payment.strip() == "boleto")
        score += {"basic": 0.4, "plus": 0.0, "family": -0.6, "pro": -0.2}[plan]
        mail = f"{first}.{last}{i}@example.com".lower()
        rows.append([f"C{i:05d}", f"{first} {last}", mail, cpf(rng), _day(date(2018, 1, 1), rng.randrange(2000)),
                     _or(rng, 0.06, rng.choice(["F", "M", "f"])), _or(rng, 0.05, rng.randrange(18, 85)),
                     rng.choice(["Sul", "Sudeste", "Norte", "Nordeste"]), plan, payment, tenure,
                     -1 if rng.random() < 0.02 else fee, calls, _or(rng, 0.04, round(rng.expovariate(0.08), 1)),
                     "Yes" if rng.random() < _logistic(score) else "No"])  # fmt: skip
    return [_csv(folder / "customers.csv",
                 "customer_id,name,email,cpf,signup_date,gender,age,region,plan,payment_method,"
                 "tenure_months,monthly_fee,support_calls,data_gb,churn", rows)]  # fmt: skip


def vendas(folder: Path, rng: random.Random) -> list[Path]:
    rows: list[Row] = []
    regions = ["São Paulo", "Interior", "Litoral"]
    for day in range(366):
        when = date(2024, 1, 1) + timedelta(days=day)
        for store in range(1, 11):
            promo = rng.random() < 0.2
            price = rng.gauss(32, 3) - 4 * promo
            level = 600 + 90 * store + 160 * math.sin(2 * math.pi * day / 366) + (220 if when.weekday() >= 5 else 0)
            sold = max(20.0, (level + 240 * promo - 6 * (price - 32)) * rng.gauss(1, 0.12))
            rows.append([when.strftime("%d/%m/%Y"), store, regions[store % 3], "sim" if promo else "não",
                         f"{price:.2f}".replace(".", ","), f"{sold:.2f}".replace(".", ",")])  # fmt: skip
    rng.shuffle(rows)
    return [_csv(folder / "vendas_diárias.csv", "Data;Loja;Região;Promoção;Preço Médio;Vendas", rows, ";", "latin-1")]


def credit(folder: Path, rng: random.Random) -> list[Path]:
    rows: list[Row] = []
    for i in range(2500):
        income, amount = math.exp(rng.gauss(8.4, 0.5)), math.exp(rng.gauss(8.8, 0.7))
        debt = income * max(0.0, rng.gauss(0.35, 0.3))
        home = rng.choice(["own", "rent", "rent", "family"])
        score = -2.2 + 2.6 * debt / income + 0.25 * math.log(amount / 6000) + 0.5 * (home == "rent")
        rows.append([f"A{i:05d}", cpf(rng), f"{rng.choice(FIRST)} {rng.choice(LAST)}", rng.randrange(18, 76),
                     _or(rng, 0.05, round(income, 2)), round(debt, 2), round(amount, 2), rng.choice([12, 24, 36, 48]),
                     rng.choice(["car", "home", "debt", "other"]), _or(rng, 0.03, home),
                     rng.choice(["SP", "RJ", "MG", "BA", "RS"]), int(rng.random() < _logistic(score))])  # fmt: skip
    return [_csv(folder / "credit.csv", "application,cpf,name,age,income,debt,amount,term_months,purpose,home,state,"
                 "default", rows)]  # fmt: skip


def reclamacoes(folder: Path, rng: random.Random) -> list[Path]:
    urgent = ["sem internet há dias", "cobrança em dobro no cartão", "vou ao Procon", "ninguém resolve", "cancelem já",
              "prejuízo no trabalho", "técnico não apareceu", "parado desde ontem"]  # fmt: skip
    calm = ["gostaria de saber o prazo", "dúvida sobre a fatura", "quero mudar de plano", "qual o horário da loja",
            "elogio ao atendente", "segunda via do boleto", "atualizar meu endereço", "sugestão de site"]  # fmt: skip
    fill = ["por favor", "obrigado", "já liguei", "meu plano é o básico", "no bairro Centro", "desde março", "olá!"]
    rows: list[Row] = []
    for i in range(1500):
        is_urgent = rng.random() < 0.35
        mixed = rng.random() < 0.12
        said = rng.sample(urgent if is_urgent != mixed else calm, 2) + rng.sample(fill, 3) + rng.sample(calm, 1)
        rng.shuffle(said)
        text = "?!" if rng.random() < 0.01 else ", ".join(said).capitalize() + rng.choice([".", "!", "..."])
        rows.append([f"R{i:05d}", _day(date(2024, 1, 1), i // 10), rng.choice(["site", "app", "email"]), text,
                     "sim" if is_urgent else "nao"])  # fmt: skip
    return [_csv(folder / "reclamacoes.csv", "id|data|canal|texto|urgente", rows, "|")]


def houses(folder: Path, rng: random.Random) -> list[Path]:
    rows: list[Row] = []
    areas = {"Norte": 0.9, "Sul": 1.2, "Leste": 0.8, "Oeste": 1.0, "Centro": 1.4}
    grades = ["Po", "Fa", "TA", "Gd", "Ex"]
    for i in range(1400):
        place, built = rng.choice(list(areas)), rng.randrange(1950, 2010)
        area, quality = rng.gauss(160, 50), min(4, max(0, round(rng.gauss(2.2, 0.9))))
        area = max(40.0, area) if rng.random() > 0.004 else 400.0
        price = 900 * area * areas[place] * (0.7 + 0.15 * quality) * (1 - 0.003 * (2010 - built)) * rng.gauss(1, 0.1)
        outside = min(4, max(0, quality + rng.choice([-1, 0, 1])))
        rows.append([i, place, round(area, 1), _or(rng, 0.1, round(rng.uniform(20, 90))),
                     _or(rng, 0.15, round(rng.uniform(10, 40), 1)), grades[quality], grades[outside], built,
                     built + rng.choice([0, 0, 10, 20]), rng.randrange(2010, 2016), rng.choice(["flat", "house"]),
                     round(max(30000.0, price if area < 400 else 150000.0), -2)])  # fmt: skip
    return [_csv(folder / "houses.csv",
                 "id,Neighborhood,GrLivArea,BasementSF,LotFrontage,KitchenQual,ExterQual,YearBuilt,"
                 "YearRemod,YrSold,Kind,SalePrice", rows)]  # fmt: skip


def deliveries(folder: Path, rng: random.Random) -> list[Path]:
    rows: list[Row] = []
    for i in range(3000):
        when = datetime(2024, 3, 1) + timedelta(minutes=rng.randrange(60 * 24 * 60))
        km, items, rain = round(rng.expovariate(0.3) + 0.3, 2), rng.randrange(1, 8), round(max(0, rng.gauss(-1, 2)), 1)
        vehicle = rng.choice(["bike", "moto", "moto", "car", "van"])
        minutes = 12 + km * {"bike": 5, "moto": 2.6, "car": 3, "van": 3.4}[vehicle] + 1.5 * items + 2 * rain
        minutes += 9 * (when.hour in (12, 13, 19, 20)) + rng.gauss(0, 4)
        rows.append([i, when.isoformat(sep=" "), km, items, vehicle, rain, round(max(5, minutes), 1)])
    return [_csv(folder / "deliveries.csv", "order,ordered_at,distance_km,items,vehicle,rain,minutes", rows)]


def sessions(folder: Path, rng: random.Random) -> list[Path]:
    costs = {"organic": 0.0, "search": 0.42, "social": 0.31, "email": 0.05, "affiliate": 0.6}
    rows: list[Row] = []
    for i in range(3000):
        when = datetime(2024, 1, 1) + timedelta(minutes=rng.randrange(60 * 24 * 181))
        channel, device = rng.choice(list(costs)), rng.choice(["mobile", "mobile", "desktop", "tablet"])
        pages, back = _count(rng, 5) + 1, rng.random() < 0.3
        cart = round(rng.expovariate(0.01), 2) if rng.random() < 0.5 else ""
        score = (
            -3.4
            + 0.22 * pages
            + 0.9 * back
            + 1.3 * (cart != "")
            + 0.6 * (channel == "email")
            - 0.4 * (device == "mobile")
        )
        rows.append([f"s{i:06d}", when.isoformat(sep=" "), device, channel, pages, round(pages * rng.uniform(10, 60)),
                     cart, int(back), int(rng.random() < _logistic(score))])  # fmt: skip
    return [_csv(folder / "sessions.csv",
                 "session_id,started_at,device,channel,pages,seconds,cart_value,returning,bought",
                 rows),
            _csv(folder / "channels.csv", "channel,cost_per_click", list(costs.items()))]  # fmt: skip


def sales(folder: Path, rng: random.Random) -> list[Path]:
    stores = [[s, rng.choice("abc"), rng.randrange(200, 3000), _or(rng, 0.2, round(rng.uniform(0.2, 15), 1))]
              for s in range(1, 13)]  # fmt: skip
    feasts = [[_day(date(2023, 1, 1), d), name] for d, name in (
        (0, "new year"), (51, "carnival"), (97, "easter"), (120, "labour"), (249, "independence"), (284, "children"),
        (305, "souls"), (318, "republic"), (358, "christmas"))]  # fmt: skip
    closed = {str(row[0]) for row in feasts[:3]}
    rows: list[Row] = []
    for d in range(365):
        when = date(2023, 1, 1) + timedelta(days=d)
        for number, kind, area, _ in stores:
            is_open, promo = int(when.isoformat() not in closed), int(rng.random() < 0.25)
            level = 2000 + 1.1 * int(str(area)) + {"a": 900, "b": 0, "c": -400}[str(kind)] + 500 * (when.weekday() == 5)
            level += 700 * promo + 900 * (when.month == 12)
            rows.append(
                [number, when.isoformat(), is_open, promo, is_open * round(max(100, level * rng.gauss(1, 0.09)))]
            )
    return [_csv(folder / "sales.csv", "store_id,date,open,promo,sales", rows),
            _csv(folder / "stores.csv", "store_id,store_type,size_m2,competition_km", stores),
            _csv(folder / "holidays.csv", "date,holiday", feasts)]  # fmt: skip


def transactions(folder: Path, rng: random.Random) -> list[Path]:
    rows: list[Row] = []
    for i in range(4000):
        amount, hour = round(math.exp(rng.gauss(4.2, 1.2)), 2), rng.randrange(24)
        country = rng.choice(["BR"] * 9 + ["US", "AR"])
        last_day, risk = _count(rng, 2), round(rng.random(), 3)
        score = -6.5 + 0.35 * math.log(amount + 1) + 1.2 * (hour < 6) + 1.5 * (country != "BR") + 0.3 * last_day + risk
        rows.append([f"t{i:06d}", amount, hour, country, last_day, risk, int(rng.random() < _logistic(score))])
    return [_csv(folder / "transactions.csv", "id,amount,hour,country,n_last_day,merchant_risk,fraud", rows)]


def consumo(folder: Path, rng: random.Random) -> list[Path]:
    rows: list[Row] = []
    for h in range(24 * 150):
        when = datetime(2024, 1, 1) + timedelta(hours=h)
        warm = 22 + 5 * math.sin(2 * math.pi * (h / 24 / 365)) + 5 * math.sin(2 * math.pi * (when.hour - 9) / 24)
        warm += rng.gauss(0, 1.5)
        kwh = (
            40 + 14 * math.sin(2 * math.pi * (when.hour - 8) / 24) + 8 * (when.weekday() < 5) + 2.2 * max(0, warm - 22)
        )
        rows.append([when.isoformat(), round(warm, 1), round(rng.uniform(40, 95)), _or(rng, 0.01, round(kwh +
                     rng.gauss(0, 3), 2))])  # fmt: skip
    return [_csv(folder / "consumo.csv", "instante,temperatura,umidade,kwh", rows)]


def wages(folder: Path, rng: random.Random) -> list[Path]:
    rows: list[Row] = []
    for i in range(1200):
        education, experience = rng.randrange(6, 19), rng.randrange(0, 40)
        sector, union = rng.choice(["industry", "services", "public"]), int(rng.random() < 0.25)
        log = 1.1 + 0.08 * education + 0.03 * experience - 0.0005 * experience**2 + 0.15 * union
        log += {"industry": 0.1, "services": 0.0, "public": 0.2}[sector] + rng.gauss(0, 0.25)
        rows.append([i, education, experience, sector, union, round(math.exp(log), 2)])
    return [_csv(folder / "wages.csv", "person,education,experience,sector,union,wage", rows)]


def sensors(folder: Path, rng: random.Random) -> list[Path]:
    rows: list[Row] = []
    for _ in range(5000):
        s = [rng.gauss(m, d) for m, d in ((50, 8), (3, 1), (0, 1), (700, 60), (0.5, 0.1), (20, 5))]
        out = 80 - 0.02 * (s[0] - 55) ** 2 + 4 * s[1] - s[1] ** 2 + 3 * math.tanh(s[2]) + 0.01 * s[3] + rng.gauss(0, 1)
        rows.append([*(round(v, 4) for v in s), round(out, 3)])
    return [_csv(folder / "sensors.csv", "s1,s2,s3,s4,s5,s6,yield", rows)]


def loans(folder: Path, rng: random.Random) -> list[Path]:
    rows: list[Row] = []
    for i in range(2200):
        income, amount = round(math.exp(rng.gauss(8.6, 0.5))), round(math.exp(rng.gauss(7.6, 0.6)))
        score, years, home = (
            round(min(850, max(300, rng.gauss(640, 80)))),
            round(rng.expovariate(0.2), 1),
            rng.choice(["own", "rent"]),
        )
        risk = -1.2 + 2.2 * amount / income - 0.008 * (score - 640) - 0.05 * years + 0.3 * (home == "rent")
        bad = rng.random() < _logistic(risk)
        rows.append([f"L{i:05d}", _day(date(2022, 1, 1), rng.randrange(700)), 0 if rng.random() < 0.005 else income,
                     amount, round(rng.expovariate(0.0005)), score, years, home,
                     rng.choice(["late", "charged_off"]) if bad else rng.choice(["paid", "current"])])  # fmt: skip
    rows += rng.sample(rows, 25)  # the export has some twice
    return [
        _csv(folder / "loans.csv", "loan_id,issue_date,income,amount,balance,score,years_employed,home,status", rows)
    ]


def rides(folder: Path, rng: random.Random) -> list[Path]:
    zones = {f"Z{z}": rng.uniform(0.8, 1.5) for z in range(9)}
    rows: list[Row] = []
    for i in range(3000):
        when = datetime(2024, 5, 1) + timedelta(minutes=17 * i + rng.randrange(15))
        km, zone = round(rng.expovariate(0.18) + 0.5, 2), rng.choice(list(zones))
        minutes, surge = round(km * rng.uniform(2, 4)), rng.choice([1.0, 1.0, 1.2, 1.6, None])
        price = (3 + 1.9 * km + 0.25 * minutes) * zones[zone] * (surge or 1.0) * rng.gauss(1, 0.05)
        rows.append([f"r{i:05d}", when.isoformat(sep=" "), zone, km, minutes, surge or "", round(max(5.0, price), 2)])
    rng.shuffle(rows)
    return [_csv(folder / "rides.csv", "ride_id,pickup,zone,km,minutes,surge,price", rows)]


def cpf(rng: random.Random) -> str:
    """Make up a CPF with right check digits, of a range that is nobody's."""
    digits = [0, 0, 0, *(rng.randrange(10) for _ in range(6))]
    for weight in (10, 11):
        rest = sum(d * (weight - at) for at, d in enumerate(digits)) * 10 % 11
        digits.append(rest % 10)
    text = "".join(map(str, digits))
    return f"{text[:3]}.{text[3:6]}.{text[6:9]}-{text[9:]}"


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def _or(rng: random.Random, share: float, value: object) -> object:
    return "" if rng.random() < share else value


def _count(rng: random.Random, mean: float) -> int:
    limit, product, number = math.exp(-mean), rng.random(), 0
    while product > limit:
        product *= rng.random()
        number += 1
    return number


def _day(first: date, days: int) -> str:
    return (first + timedelta(days=days)).isoformat()


def _csv(path: Path, header: str, rows: Iterable[Row], separator: str = ",", encoding: str = "utf-8") -> Path:
    with path.open("w", encoding=encoding, newline="") as handle:
        handle.write(header + "\n")
        csv.writer(handle, delimiter=separator, lineterminator="\n").writerows(rows)
    return path


MAKERS: dict[str, Callable[[Path, random.Random], list[Path]]] = {
    maker.__name__: maker
    for maker in (passengers, customers, vendas, credit, reclamacoes, houses, deliveries, sessions, sales, transactions,
                  consumo, wages, sensors, loans, rides)
}  # fmt: skip
