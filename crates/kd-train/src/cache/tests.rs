#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;

use super::*;

/// A teacher that counts its calls. Its output is a function of the input alone.
#[derive(Debug)]
struct Counted {
    calls: usize,
    weights: &'static str,
}

impl Teacher<Tensor<2>> for Counted {
    fn taps(
        &mut self,
        input: &Tensor<2>,
        _: &[usize],
        _: u64,
        wanted: &[String],
    ) -> Result<Taps, TeacherError> {
        self.calls += 1;
        let mut taps = Taps::only(wanted);
        taps.tap("hidden", input.clone());
        taps.insert(OUTPUT, input.clone().tanh() * 3.0);
        Ok(taps)
    }
    fn differentiable(&self, input: Tensor<2>, _: &[String]) -> Result<Taps, TeacherError> {
        let mut taps = Taps::none();
        taps.insert(OUTPUT, input.tanh() * 3.0);
        Ok(taps)
    }
    fn fingerprint(&self) -> Result<String, TeacherError> {
        Ok(self.weights.to_owned())
    }
    fn parameters(&self) -> usize {
        7
    }
    fn name(&self) -> &str {
        "counted"
    }
}

const SAMPLES: usize = 10;
const CLASSES: usize = 4;

fn key() -> CacheKey {
    let (dataset, augmentation) = ("digits train".to_owned(), "none".to_owned());
    CacheKey { dataset, augmentation, samples: SAMPLES, output: vec![CLASSES] }
}

fn settings(precision: Precision) -> CacheSettings {
    CacheSettings { precision, ..CacheSettings::default() }
}

fn teacher() -> Counted {
    Counted { calls: 0, weights: "0123" }
}

fn open(folder: &Path, settings: &CacheSettings) -> CachedTeacher<Counted> {
    CachedTeacher::open(teacher(), folder, key(), settings, &Device::flex()).unwrap()
}

fn refused(folder: &Path, teacher: Counted, key: CacheKey, settings: &CacheSettings) -> String {
    CachedTeacher::open(teacher, folder, key, settings, &Device::flex()).unwrap_err().to_string()
}

/// The batch of these samples in this view.
fn batch(ids: &[usize], view: u64) -> Tensor<2> {
    let row =
        |&id: &usize| (0..CLASSES).map(move |class| ((id * 7 + class * 3) as f32 + view as f32 / 3.0).sin());
    let numbers: Vec<f32> = ids.iter().flat_map(row).collect();
    Tensor::from_data(TensorData::new(numbers, [ids.len(), CLASSES]), &Device::flex())
}

fn read(taps: &Taps) -> Vec<f32> {
    taps.get::<2>(OUTPUT).unwrap().into_data().try_to_vec().unwrap()
}

fn ask(cached: &mut CachedTeacher<Counted>, ids: &[usize], view: u64) -> Vec<f32> {
    read(&cached.taps(&batch(ids, view), ids, view, &[]).unwrap())
}

fn computed(ids: &[usize], view: u64) -> Vec<f32> {
    read(&teacher().taps(&batch(ids, view), ids, view, &[]).unwrap())
}

const ALL: [usize; SAMPLES] = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7];

#[test]
fn single_precision_gives_back_what_was_computed_bit_for_bit_and_only_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut cached = open(folder.path(), &settings(Precision::F32));
    assert_eq!(ask(&mut cached, &ALL, 0), computed(&ALL, 0));
    assert_eq!((cached.hits(), cached.misses(), cached.teacher().calls), (0, 10, 1));
    let other_order = [9, 0, 3];
    assert_eq!(ask(&mut cached, &ALL, 0), computed(&ALL, 0));
    assert_eq!(ask(&mut cached, &other_order, 0), computed(&other_order, 0));
    assert_eq!((cached.hits(), cached.misses(), cached.teacher().calls), (13, 10, 1));
}

#[test]
fn half_precision_is_within_half_a_unit_and_the_same_in_every_pass() {
    let folder = tempfile::tempdir().unwrap();
    let mut cached = open(folder.path(), &settings(Precision::F16));
    let first = ask(&mut cached, &ALL, 0);
    for (found, expected) in first.iter().zip(computed(&ALL, 0)) {
        assert!((found - expected).abs() <= expected.abs() / 2048.0 + 3e-8, "{found} {expected}");
    }
    assert_eq!(ask(&mut cached, &ALL, 0), first);
}

#[test]
fn what_one_process_wrote_another_one_reads() {
    let folder = tempfile::tempdir().unwrap();
    ask(&mut open(folder.path(), &settings(Precision::F32)), &[1, 2], 0);
    let mut cached = open(folder.path(), &settings(Precision::F32));
    assert_eq!(ask(&mut cached, &[2, 1], 0), computed(&[2, 1], 0));
    assert_eq!(cached.teacher().calls, 0);
    assert_eq!(ask(&mut cached, &[2, 5], 0), computed(&[2, 5], 0));
    assert_eq!((cached.hits(), cached.misses()), (3, 1));
}

#[test]
fn every_view_has_its_own_outputs_and_there_are_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let mut cached = open(folder.path(), &CacheSettings { views: 2, ..settings(Precision::F32) });
    for epoch in 0..6 {
        assert_eq!(ask(&mut cached, &ALL, epoch % 2), computed(&ALL, epoch % 2));
    }
    assert_eq!((cached.misses(), cached.teacher().calls), (20, 2));
    let error = cached.taps(&batch(&[0], 2), &[0], 2, &[]).unwrap_err().to_string();
    assert!(error.contains("no view 2") && error.contains("`views = 2`"), "{error}");
}

#[test]
fn top_k_keeps_the_largest_logits_and_makes_the_file_smaller() {
    let folder = tempfile::tempdir().unwrap();
    let mut key = key();
    key.output = vec![2, 100];
    let wide = |ids: &[usize]| batch(ids, 0).repeat_dim(1, 50).reshape([ids.len(), 2, 100]);
    #[derive(Debug)]
    struct Tokens;
    impl Teacher<Tensor<3>> for Tokens {
        fn taps(
            &mut self,
            input: &Tensor<3>,
            _: &[usize],
            _: u64,
            _: &[String],
        ) -> Result<Taps, TeacherError> {
            self.differentiable(input.clone() * 2.0, &[])
        }
        fn differentiable(&self, input: Tensor<3>, _: &[String]) -> Result<Taps, TeacherError> {
            let mut taps = Taps::none();
            taps.insert(OUTPUT, input);
            Ok(taps)
        }
        fn fingerprint(&self) -> Result<String, TeacherError> {
            Ok("tokens".into())
        }
        fn parameters(&self) -> usize {
            0
        }
        fn name(&self) -> &str {
            "tokens"
        }
    }
    let settings = CacheSettings { top_k: Some(5), ..settings(Precision::F32) };
    let mut cached = CachedTeacher::open(Tokens, folder.path(), key, &settings, &Device::flex()).unwrap();
    let ids = [4, 8];
    for _ in 0..2 {
        let output = cached.taps(&wide(&ids), &ids, 0, &[]).unwrap().get::<3>(OUTPUT).unwrap();
        let whole = wide(&ids) * 2.0;
        let top = |tensor: &Tensor<3>| tensor.clone().topk(5, 2).into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(output.dims(), [2, 2, 100]);
        assert_eq!(top(&output), top(&whole));
    }
    assert_eq!((cached.hits(), cached.misses()), (2, 2));
    assert!(cached.planned_bytes() < (SAMPLES * 2 * 100 * 4) as u64 / 5);
}

#[test]
fn its_size_is_known_before_anything_is_computed() {
    let folder = tempfile::tempdir().unwrap();
    let mut cached = open(folder.path(), &settings(Precision::F16));
    let planned = cached.planned_bytes();
    ask(&mut cached, &ALL, 0);
    let sizes =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
    assert_eq!(sizes.sum::<u64>(), planned);
}

#[test]
fn a_cache_of_another_teacher_data_set_or_setting_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let f32 = settings(Precision::F32);
    ask(&mut open(path, &f32), &ALL, 0);

    let error = refused(path, Counted { weights: "4567", ..teacher() }, key(), &f32);
    assert!(
        error.contains("teacher was \"0123\", now \"4567\"") && error.contains("delete the folder"),
        "{error}"
    );
    let error = refused(path, teacher(), CacheKey { dataset: "mnist".into(), samples: 12, ..key() }, &f32);
    assert!(error.contains("dataset was \"digits train\", now \"mnist\"; samples was 10, now 12"), "{error}");
    let error = refused(path, teacher(), key(), &CacheSettings { views: 3, ..settings(Precision::F16) });
    assert!(
        error.contains("precision was \"f32\", now \"f16\"") && error.contains("views was 1, now 3"),
        "{error}"
    );

    let mut cached = open(path, &f32);
    assert_eq!(ask(&mut cached, &ALL, 0), computed(&ALL, 0));
    assert_eq!(cached.misses(), 0);
}

#[test]
fn a_damaged_record_is_computed_anew_and_the_others_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let records = folder.path().join("outputs.bin");
    ask(&mut open(folder.path(), &settings(Precision::F32)), &ALL, 0);
    let whole = std::fs::read(&records).unwrap();
    let record = whole.len() / SAMPLES;
    for byte in 0..record {
        let mut torn = whole.clone();
        torn[5 * record + byte] ^= 0x40;
        std::fs::write(&records, torn).unwrap();
        let mut cached = open(folder.path(), &settings(Precision::F32));
        assert_eq!(ask(&mut cached, &ALL, 0), computed(&ALL, 0));
        assert_eq!((cached.hits(), cached.misses()), (9, 1), "byte {byte}");
    }
    assert_eq!(std::fs::read(&records).unwrap(), whole);
}

#[test]
fn a_record_in_the_place_of_another_is_torn() {
    let folder = tempfile::tempdir().unwrap();
    let records = folder.path().join("outputs.bin");
    ask(&mut open(folder.path(), &settings(Precision::F32)), &ALL, 0);
    let mut bytes = std::fs::read(&records).unwrap();
    let record = bytes.len() / SAMPLES;
    bytes.copy_within(0..record, record);
    std::fs::write(&records, bytes).unwrap();
    let mut cached = open(folder.path(), &settings(Precision::F32));
    assert_eq!(ask(&mut cached, &ALL, 0), computed(&ALL, 0));
    assert_eq!(cached.misses(), 1);
}

#[test]
fn a_cache_cut_off_anywhere_is_filled_up_again() {
    let folder = tempfile::tempdir().unwrap();
    let records = folder.path().join("outputs.bin");
    ask(&mut open(folder.path(), &settings(Precision::F32)), &ALL, 0);
    let whole = std::fs::read(&records).unwrap();
    let record = whole.len() / SAMPLES;
    for length in 0..whole.len() {
        std::fs::write(&records, &whole[..length]).unwrap();
        let mut cached = open(folder.path(), &settings(Precision::F32));
        assert_eq!(ask(&mut cached, &ALL, 0), computed(&ALL, 0));
        assert_eq!(cached.hits(), (length / record) as u64, "{length} bytes");
    }
    assert_eq!(std::fs::read(&records).unwrap(), whole);
}

#[test]
fn files_that_are_no_cache_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (header, records) = (folder.path().join("header.json"), folder.path().join("outputs.bin"));
    let f32 = settings(Precision::F32);
    std::fs::write(&records, "mine").unwrap();
    assert!(refused(folder.path(), teacher(), key(), &f32).contains("but no header.json"));
    assert_eq!(std::fs::read(&records).unwrap(), b"mine");
    std::fs::write(&header, "{\"mine\": 1}").unwrap();
    assert!(refused(folder.path(), teacher(), key(), &f32).contains("not a teacher cache"));
    std::fs::remove_file(&header).unwrap();
    std::fs::remove_file(&records).unwrap();
    ask(&mut open(folder.path(), &f32), &ALL, 0);
    let mut longer = std::fs::read(&records).unwrap();
    longer.push(0);
    std::fs::write(&records, longer).unwrap();
    assert!(
        refused(folder.path(), teacher(), key(), &f32)
            .contains("outputs.bin has 211 bytes, it should have 210")
    );
}

#[test]
fn a_second_process_is_told_that_the_cache_is_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path(), &settings(Precision::F32));
    let error = refused(folder.path(), teacher(), key(), &settings(Precision::F32));
    assert!(error.contains("another process uses it"), "{error}");
    drop(first);
    open(folder.path(), &settings(Precision::F32));
}

#[test]
fn other_taps_come_from_the_teacher_itself() {
    let folder = tempfile::tempdir().unwrap();
    let mut cached = open(folder.path(), &settings(Precision::F16));
    let wanted = ["hidden".to_owned()];
    assert!(!CachedTeacher::<Counted>::serves(&wanted));
    assert!(CachedTeacher::<Counted>::serves(&[OUTPUT.to_owned()]));
    for _ in 0..2 {
        let taps = cached.taps(&batch(&[0, 1], 0), &[0, 1], 0, &wanted).unwrap();
        assert_eq!(taps.get::<2>("hidden").unwrap().dims(), [2, CLASSES]);
        assert_eq!(read(&taps), computed(&[0, 1], 0));
    }
    assert_eq!((cached.teacher().calls, cached.hits(), cached.misses()), (2, 0, 0));
}

#[test]
fn a_batch_that_does_not_fit_the_cache_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut cached = open(folder.path(), &settings(Precision::F32));
    let error = cached.taps(&batch(&[0, 10], 0), &[0, 10], 0, &[]).unwrap_err().to_string();
    assert!(error.contains("sample 10 does not exist") && error.contains("10 samples"), "{error}");
    let error = cached.taps(&batch(&[0, 1], 0), &[0, 1, 2], 0, &[]).unwrap_err().to_string();
    assert!(error.contains("shape [2, 4]") && error.contains("[3, 4]"), "{error}");
}

#[test]
fn settings_out_of_range_name_key_value_and_range() {
    let folder = tempfile::tempdir().unwrap();
    let wide = CacheSettings { top_k: Some(5), ..CacheSettings::default() };
    assert!(refused(folder.path(), teacher(), key(), &wide).contains("`top_k` is 5, but it must be 1 to 4"));
    let none = CacheSettings { views: 0, ..CacheSettings::default() };
    assert!(
        refused(folder.path(), teacher(), key(), &none).contains("`views` is 0, but it must be 1 to 1024")
    );
    let parsed: CacheSettings = toml::from_str("precision = \"f32\"\ntop_k = 3").unwrap();
    assert_eq!(parsed, CacheSettings { precision: Precision::F32, top_k: Some(3), views: 1 });
    assert!(toml::from_str::<CacheSettings>("topk = 3").is_err());
}
